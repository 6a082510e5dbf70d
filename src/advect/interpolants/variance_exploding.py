"""The variance-exploding diffusion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants.affine import AffineInterpolant, Number


@dataclass(frozen=True)
class VE(AffineInterpolant):
    r"""x_t = x1 + g x0, g = sigma_max^(1-t) sigma_min^t; lambda = -log g is linear in t.

    g(1) = sigma_min is not 0, so t=1 is not yet data: a last step to x1 is up to the sampler. At t=0 the state still
    holds all of x1; the start g(0) x0 neglects it.

    Args:
        sigma_min: Noise left at t=1, above 0.
        sigma_max: Noise at t=0, above sigma_min.

    Source: arXiv 2011.13456 (VE), arXiv 2206.00364 (EDM, where g itself is the clock).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise InputError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: a VE path needs 0 < sigma_min < sigma_max"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.exp(-self.half_log_snr(t))

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -self._log_ratio * self.sigma(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        return self._log_ratio * t - math.log(self.sigma_max)

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        return (half_log_snr + math.log(self.sigma_max)) / self._log_ratio

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        return 1.0, 1 / self._log_ratio, 0.0, 1 / self.d_sigma(t)
