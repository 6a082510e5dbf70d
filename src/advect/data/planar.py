"""Planar toy data that are drawn from a seed: what papers show their first figure on."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from advect.batch import Batch
from advect.data.base import Data, Split
from advect.errors import InputError
from advect.randomness import generator as seeded
from advect.randomness import rand, randint, randn


class Planar(Data):
    """Points of the plane, drawn once from (seed, split)."""

    n: int
    seed: int

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n fresh points, float32 (n, 2)."""

    def points(self, split: Split = "train") -> Tensor:
        """All points of a split, (n, 2); validation and test hold a tenth as many."""
        if split not in self._drawn:
            self._drawn[split] = self.draw(self.size(split), seeded(self.seed, type(self).__name__, split))
        return self._drawn[split]

    @cached_property
    def _drawn(self) -> dict[str, Tensor]:
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    def size(self, split: Split = "train") -> int:
        return self.n if split == "train" else max(1, self.n // 10)

    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.points(split)[index])


def _check(n: int) -> None:
    if n < 1:
        raise InputError(f"n is {n}: a data set has at least 1 point")


@dataclass(frozen=True)
class EightGaussians(Planar):
    """Eight equal Gaussians on a circle, at the angles k pi/4.

    Args:
        n: Number of training points.
        seed: Seed of the draw.
        radius: Radius of the circle.
        std: Standard deviation of each Gaussian.
    """

    n: int = 200_000
    seed: int = 0
    radius: float = 4.0
    std: float = 0.3

    def __post_init__(self) -> None:
        _check(self.n)

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        angle = randint(8, (n,), generator) * (math.pi / 4)
        return self.radius * torch.stack([angle.cos(), angle.sin()], 1) + self.std * randn((n, 2), generator)


@dataclass(frozen=True)
class Checkerboard(Planar):
    """The uniform density on every other cell of a board of cells x cells on [-4, 4]^2.

    Args:
        n: Number of training points.
        seed: Seed of the draw.
        cells: Cells per side, an even number.
    """

    n: int = 200_000
    seed: int = 0
    cells: int = 4

    def __post_init__(self) -> None:
        _check(self.n)
        if self.cells < 2 or self.cells % 2:
            raise InputError(f"cells is {self.cells}: a checkerboard has an even number of cells per side, at least 2")

    def draw(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        row = randint(self.cells, (n,), generator)
        column = 2 * randint(self.cells // 2, (n,), generator) + row % 2
        return (torch.stack([column, row], 1) + rand((n, 2), generator)) * (8 / self.cells) - 4
