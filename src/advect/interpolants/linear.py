"""The straight path of flow matching and rectified flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.interpolants.affine import AffineInterpolant, Number
from advect.interpolants.base import Point


@dataclass(frozen=True)
class Linear(AffineInterpolant):
    r"""x_t = t x1 + (1 - t) x0, v = x1 - x0, Delta = 1, lambda = logit(t).

    Source: arXiv 2209.03003 (rectified flow), arXiv 2210.02747 (conditional OT path).
    """

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        return torch.logit(t)

    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        return torch.sigmoid(half_log_snr)

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        return 1.0, 1 - t, 1.0, -t

    def sample(self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Point:
        return Point(torch.lerp(x0, x1, expand_time(t, x1)), x1 - x0)
