r"""Paths with a^2 + g^2 = 1 whose g falls like a square root at t=1.

There g' = -a a'/g is -inf, and with it the velocity of a single pair; but g g' = -a a' is finite, and so are the ratios
that turn a velocity into its ends:  x1 = a x + (g^2/a') v,  x0 = g x - (a g/a') v.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.interpolants.affine import AffineInterpolant, Coefficients, Number
from advect.interpolants.diffusion_clock import check_betas, clock, clock_rate, time_of_clock


class VariancePreserving(AffineInterpolant):
    """a(t) rises, g = sqrt(1 - a^2)."""

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.sigma_d_sigma(t) / self.sigma(t)

    def sigma_d_sigma(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.d_alpha(t)

    def _coefficients(self, t: Tensor) -> Coefficients:
        a, g, da = self.alpha(t), self.sigma(t), self.d_alpha(t)
        return Coefficients(a, g, da, -a * da / g)

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        a, g, da = self.alpha(t), self.sigma(t), self.d_alpha(t)
        return a, g**2 / da, g, -a * g / da


@dataclass(frozen=True)
class LinearVP(VariancePreserving):
    r"""x_t = t x1 + sqrt(1 - t^2) x0, lambda = log(t / sqrt(1 - t^2)).

    Source: arXiv 2303.08797, section 3.4 (the path of score-based diffusion, retimed to [0, 1]).
    """

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt((1 - t) * (1 + t))

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        return t.log() - 0.5 * (torch.log1p(-t) + torch.log1p(t))

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        # sigmoid(2 lambda) = t^2, rooted in the logarithm so that small times keep their digits
        return torch.exp(0.5 * torch.nn.functional.logsigmoid(2 * half_log_snr))


@dataclass(frozen=True)
class VPSDE(VariancePreserving):
    r"""The variance-preserving diffusion: a = exp(-T/2), g = sqrt(1 - a^2), T = (1-t)^2 (b1-b0)/2 + (1-t) b0.

    a(0) is exp(-(b0+b1)/4) (6.6e-3 by default), not 0: at t=0 a trace of the data is left. lambda = -log(e^T - 1)/2,
    with the inverse T = log(1 + e^(-2 lambda)).

    Args:
        beta_min: Noise rate b0 at the data, above 0.
        beta_max: Noise rate b1 at the source, at least beta_min.

    Source: arXiv 2011.13456 (Score-SDE), appendix C; there the data is at t=0.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        check_betas(self.beta_min, self.beta_max)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * clock(t, self.beta_min, self.beta_max))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-clock(t, self.beta_min, self.beta_max)))

    def d_alpha(self, t: Tensor) -> Tensor:
        return 0.5 * clock_rate(t, self.beta_min, self.beta_max) * self.alpha(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        T = clock(t, self.beta_min, self.beta_max)
        return -0.5 * (T + torch.log(-torch.expm1(-T)))

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        T = torch.logaddexp(torch.zeros_like(half_log_snr), -2 * half_log_snr)
        return time_of_clock(T, self.beta_min, self.beta_max)
