"""A path whose source is scaled, the data left as they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from advect.errors import InputError
from advect.interpolants.affine import AffineInterpolant, Number


@dataclass(frozen=True)
class SourceScaled(AffineInterpolant):
    r"""x_t = a x1 + c g x0: what a unit source makes of the path when it is multiplied by c; lambda falls by log c.

    On the straight path the log-SNR at t is that of the plain path at t / (t + c (1 - t)), so a field trained on
    N(0, I) becomes the exact field of the source N(0, c^2 I) by ``ChangedPath(field, Linear(), SourceScaled(Linear(),
    c))``: a source of another size is a time shift and a scale of the states, and needs no training. A sampler starts
    from g(0) x0 = c x0 there, with x0 ~ N(0, I).

    Args:
        path: The path.
        scale: c, above 0.
    """

    path: AffineInterpolant
    scale: float

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise InputError(f"scale is {self.scale}: the scale of a source is above 0")

    def alpha(self, t: Tensor) -> Tensor:
        return self.path.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.scale * self.path.sigma(t)

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.path.d_alpha(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.scale * self.path.d_sigma(t)

    def sigma_d_sigma(self, t: Tensor) -> Tensor:
        return self.scale**2 * self.path.sigma_d_sigma(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        return self.path.half_log_snr(t) - math.log(self.scale)

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        return self.path.time_of_half_log_snr(half_log_snr + math.log(self.scale))

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        x1_x, x1_v, x0_x, x0_v = self.path.ends_of_velocity(t)
        return x1_x, x1_v, x0_x / self.scale, x0_v / self.scale
