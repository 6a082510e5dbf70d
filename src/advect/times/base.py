"""When to look: time densities for training, grids for sampling."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advect.parts import Part

if TYPE_CHECKING:
    from advect.interpolants import AffineInterpolant


class TimeDensity(Part, ABC):
    """The distribution of training times."""

    @abstractmethod
    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw n times in [0, 1], shape (n,)."""


class Grid(Part, ABC):
    """The times a solver steps through, `steps` of them after the first.

    `for_noise` is False for grids that were found for steps without noise: a solver that draws it refuses them.
    """

    steps: int
    for_noise = True

    @property
    def found_for(self) -> str | None:
        """The solver whose errors the grid was found to balance; None for a grid that promises nothing."""
        return None

    @abstractmethod
    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        """The n+1 nodes, from the first to the last; some grids are laid out on the log-SNR of `interpolant`."""

    @property
    def breaks(self) -> tuple[int, ...]:
        """Indices of nodes where a multistep rule starts anew."""
        return ()

    def with_steps(self, steps: int) -> Grid:
        """The same grid with another number of steps."""
        return dataclasses.replace(self, steps=steps)  # pyright: ignore[reportArgumentType, reportCallIssue]
