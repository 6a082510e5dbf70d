"""The preconditioning of EDM, on any affine path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.errors import InputError
from advect.interpolants.affine import AffineInterpolant
from advect.interpolants.linear import Linear
from advect.parts import Part


class EDMCoefficients(NamedTuple):
    """The four coefficients at one time, and the loss weight on x1."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor
    weight: Tensor


@dataclass(frozen=True)
class EDMPreconditioning(Part):
    r"""x1 = c_skip xs + c_out F(c_in xs; c_noise), with xs = x/a and the noise level sg = g/a = e^(-lambda).

    c_skip = sd^2 / (sg^2 + sd^2), c_out = sg sd / sqrt(sg^2 + sd^2), c_in = 1 / sqrt(sg^2 + sd^2), c_noise = log(sg)/4;
    the weight (sg^2 + sd^2) / (sg sd)^2 of the loss on x1 makes the loss on F plain.

    Conversions of F need none of this (``interpolant.convert(F, x, t, "F", "x1", data_std=sd)`` is finite at a=0 and
    g=0 too); this class is for what a network is fed with, and for weights.

    Args:
        interpolant: The path; source N(0, I).
        data_std: sd, standard deviation of the data, above 0.

    Source: arXiv 2206.00364, table 1.
    """

    interpolant: AffineInterpolant = Linear()
    data_std: float = 0.5

    def __post_init__(self) -> None:
        if not self.data_std > 0:
            raise InputError(f"data_std is {self.data_std}: the standard deviation of the data is above 0")

    def at(self, t: Tensor | float, x: Tensor) -> EDMCoefficients:
        """The coefficients at t, shaped to broadcast against x (B, *shape)."""
        half_log_snr = self.interpolant.half_log_snr(expand_time(t, x))
        sd, sg = self.data_std, torch.exp(-half_log_snr)
        total = sg**2 + sd**2
        return EDMCoefficients(
            sd**2 / total, sg * sd / total.sqrt(), total.rsqrt(), -half_log_snr / 4, total / (sg * sd) ** 2
        )

    def network_input(self, x: Tensor, t: Tensor | float) -> Tensor:
        """c_in xs = x / sqrt(g^2 + a^2 sd^2): unit variance at every t, both ends included."""
        t = expand_time(t, x)
        return x / torch.hypot(self.interpolant.sigma(t), self.data_std * self.interpolant.alpha(t))
