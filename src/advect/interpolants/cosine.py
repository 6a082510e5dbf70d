"""The trigonometric path."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.interpolants.affine import AffineInterpolant, Coefficients, Number

_QUARTER = math.pi / 2


@dataclass(frozen=True)
class Cosine(AffineInterpolant):
    r"""x_t = sin(pi t/2) x1 + cos(pi t/2) x0, Delta = pi/2, lambda = log tan(pi t/2).

    Keeps the variance where both ends have the same. The cosine is computed as sin(pi (1-t)/2), which is 0 at t=1;
    cos(pi/2) is 6e-17 in floating point, and no rule for the end would see it.

    Source: arXiv 2303.08797 (trigonometric), arXiv 2401.08740 ("GVP"), arXiv 2410.11081 (TrigFlow).
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(_QUARTER * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(_QUARTER * (1 - t))

    def d_alpha(self, t: Tensor) -> Tensor:
        return _QUARTER * self.sigma(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -_QUARTER * self.alpha(t)

    def _coefficients(self, t: Tensor) -> Coefficients:
        a, g = self.alpha(t), self.sigma(t)
        return Coefficients(a, g, _QUARTER * g, -_QUARTER * a)

    def half_log_snr(self, t: Tensor) -> Tensor:
        return self.alpha(t).log() - self.sigma(t).log()

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        return torch.atan(half_log_snr.exp()) / _QUARTER

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        a, g = self.alpha(t), self.sigma(t)
        return a, g / _QUARTER, g, -a / _QUARTER
