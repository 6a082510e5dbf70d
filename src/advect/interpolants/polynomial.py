"""The straight path walked at another speed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants.affine import AffineInterpolant, Number


@dataclass(frozen=True)
class Polynomial(AffineInterpolant):
    r"""x_t = t^n x1 + (1 - t^n) x0, the linear path retimed; Delta = n t^(n-1), lambda = logit(t^n).

    For n > 1 the velocity vanishes at t=0 and says nothing about x1 there: x1 from v is 0/0 at t=0, x0 is not.

    Args:
        n: Power of t, above 0; n=1 is the linear path.
    """

    n: float = 2.0

    def __post_init__(self) -> None:
        if not self.n > 0:
            raise InputError(f"n is {self.n}: the power of a polynomial path is above 0")

    def alpha(self, t: Tensor) -> Tensor:
        return t**self.n

    def sigma(self, t: Tensor) -> Tensor:
        # 1 - t^n without losing the small difference near t=1
        return -torch.expm1(self.n * t.log())

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.n * t ** (self.n - 1)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -self.d_alpha(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        log_a = self.n * t.log()
        return log_a - torch.log(-torch.expm1(log_a))

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        return torch.exp(torch.nn.functional.logsigmoid(half_log_snr) / self.n)

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        return 1.0, self.sigma(t) / self.d_alpha(t), 1.0, -t / self.n
