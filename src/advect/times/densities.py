"""Time densities for training. Convention: t=0 source, t=1 data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.randomness import rand
from advect.times.base import TimeDensity


@dataclass(frozen=True)
class Uniform(TimeDensity):
    """t = start + (end - start) U.

    Args:
        start: Smallest time, in [0, 1).
        end: Largest time, in (start, 1].
    """

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < self.end <= 1.0:
            raise InputError(f"start={self.start}, end={self.end}: a uniform time density needs 0 <= start < end <= 1")

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        t = rand((n,), generator, dtype=dtype, device=device)
        if self.start == 0.0 and self.end == 1.0:
            return t
        return self.start + (self.end - self.start) * t
