"""A path walked at shifted times, as large images want it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from advect.errors import InputError
from advect.interpolants.affine import AffineInterpolant, Coefficients, Number

Time = TypeVar("Time", Tensor, float)


def shift_time(t: Time, shift: float) -> Time:
    """t / (t + s (1 - t)): lingers at the noisy end for s > 1; the inverse is the shift 1/s."""
    return t / (t + shift * (1 - t))


@dataclass(frozen=True)
class Shifted(AffineInterpolant):
    r"""The path at the time t / (t + s (1 - t)); on the linear path lambda falls by log s at every t.

    With the share of source g of the linear path, g~ = s g / (1 + (s - 1) g), the "shift" of SD3 (s=3 at 1024^2) and
    diffusers; its "exponential" dynamic shift mu is s = e^mu. The inverse is the shift 1/s.

    Args:
        path: The path to retime.
        shift: s, above 0; above 1 more of the time is spent near the source.

    Source: arXiv 2403.03206 (SD3), section 5.3.2; there t=1 is the source.
    """

    path: AffineInterpolant
    shift: float

    def __post_init__(self) -> None:
        if not self.shift > 0:
            raise InputError(f"shift is {self.shift}: a time shift is above 0")

    def _rate(self, t: Tensor) -> Tensor:
        return self.shift / (t + self.shift * (1 - t)) ** 2

    def alpha(self, t: Tensor) -> Tensor:
        return self.path.alpha(shift_time(t, self.shift))

    def sigma(self, t: Tensor) -> Tensor:
        return self.path.sigma(shift_time(t, self.shift))

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.path.d_alpha(shift_time(t, self.shift)) * self._rate(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.path.d_sigma(shift_time(t, self.shift)) * self._rate(t)

    def sigma_d_sigma(self, t: Tensor) -> Tensor:
        return self.path.sigma_d_sigma(shift_time(t, self.shift)) * self._rate(t)

    def _coefficients(self, t: Tensor) -> Coefficients:
        a, g, da, dg = self.path.coefficients(shift_time(t, self.shift))
        rate = self._rate(t)
        return Coefficients(a, g, da * rate, dg * rate)

    def half_log_snr(self, t: Tensor) -> Tensor:
        return self.path.half_log_snr(shift_time(t, self.shift))

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        return shift_time(self.path.time_of_half_log_snr(half_log_snr), 1 / self.shift)

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        x1_x, x1_v, x0_x, x0_v = self.path.ends_of_velocity(shift_time(t, self.shift))
        rate = self._rate(t)
        return x1_x, x1_v / rate, x0_x, x0_v / rate
