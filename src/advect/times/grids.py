"""Grids for sampling: the nodes a solver steps through, forwards (0 to 1) or backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from advect.errors import InputError
from advect.times.base import Grid

if TYPE_CHECKING:
    from advect.interpolants import AffineInterpolant


@dataclass(frozen=True)
class TimeGrid(Grid):
    """`steps` equal steps from `start` to `end`; end < start runs backwards (data to source).

    Args:
        steps: Number of steps, at least 1.
        start: First time.
        end: Last time.
    """

    steps: int = 50
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps is {self.steps}: a grid has at least 1 step")

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        n = self.steps
        return [self.start + (self.end - self.start) * i / n for i in range(n)] + [self.end]
