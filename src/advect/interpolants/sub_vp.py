"""The sub-VP diffusion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.interpolants.affine import AffineInterpolant
from advect.interpolants.diffusion_clock import check_betas, clock, clock_rate, time_of_clock


@dataclass(frozen=True)
class SubVP(AffineInterpolant):
    r"""a = exp(-T/2) as in :class:`VPSDE`, g = 1 - a^2 (not variance preserving).

    lambda = -log(2 sinh(T/2)), with the inverse T = 2 asinh(e^(-lambda)/2).

    Args:
        beta_min: Noise rate at the data, above 0.
        beta_max: Noise rate at the source, at least beta_min.

    Source: arXiv 2011.13456, section 3.4; there the data is at t=0.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        check_betas(self.beta_min, self.beta_max)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * clock(t, self.beta_min, self.beta_max))

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-clock(t, self.beta_min, self.beta_max))

    def d_alpha(self, t: Tensor) -> Tensor:
        return 0.5 * clock_rate(t, self.beta_min, self.beta_max) * self.alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -2 * self.alpha(t) * self.d_alpha(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        T = clock(t, self.beta_min, self.beta_max)
        return -0.5 * T - torch.log(-torch.expm1(-T))

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        T = 2 * torch.asinh(0.5 * torch.exp(-half_log_snr))
        return time_of_clock(T, self.beta_min, self.beta_max)
