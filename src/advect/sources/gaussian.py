"""The Gaussian source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.randomness import randn
from advect.sources.base import Source


@dataclass(frozen=True)
class Gaussian(Source):
    """x0 ~ N(mean, std^2 I).

    Args:
        std: Standard deviation, above 0.
        mean: Mean of every coordinate.
    """

    std: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise InputError(f"std is {self.std}: the standard deviation of a Gaussian source is above 0")

    def sample(
        self,
        shape: Sequence[int],
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        *,
        rows: Tensor | None = None,
        x1: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        x0 = randn(shape, generator, dtype=dtype, device=device)
        if self.std != 1.0:
            x0 = x0 * self.std
        return x0 if self.mean == 0.0 else x0 + self.mean

    @property
    def gaussian(self) -> tuple[float, float] | None:
        return self.mean, self.std

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        return (self.mean - x0) / self.std**2

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        u = ((x0 - self.mean) / self.std).flatten(1)
        return -0.5 * u.square().sum(1) - u.shape[1] * (0.5 * math.log(2 * math.pi) + math.log(self.std))
