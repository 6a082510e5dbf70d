"""A path whose states are scaled."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from advect.errors import InputError
from advect.interpolants.affine import AffineInterpolant, Number


@dataclass(frozen=True)
class Scaled(AffineInterpolant):
    r"""x_t = c (a x1 + g x0): the same lambda, states scaled by c.

    Args:
        path: The path to scale.
        scale: c, above 0.
    """

    path: AffineInterpolant
    scale: float

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"scale is {self.scale}: the scale of a path is above 0")

    def alpha(self, t: Tensor) -> Tensor:
        return self.scale * self.path.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.scale * self.path.sigma(t)

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.scale * self.path.d_alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.scale * self.path.d_sigma(t)

    def sigma_d_sigma(self, t: Tensor) -> Tensor:
        return self.scale**2 * self.path.sigma_d_sigma(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        return self.path.half_log_snr(t)

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        return self.path.time_of_half_log_snr(half_log_snr)

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        x1_x, x1_v, x0_x, x0_v = self.path.ends_of_velocity(t)
        return x1_x / self.scale, x1_v / self.scale, x0_x / self.scale, x0_v / self.scale
