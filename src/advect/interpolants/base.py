"""The seat "which way": how x_t runs from the source x0 at t=0 to the data x1 at t=1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from advect.parts import Part


class Point(NamedTuple):
    """A point on a path: state x_t, velocity dx_t/dt, and the latent z of a stochastic path (else None)."""

    x: Tensor
    v: Tensor
    z: Tensor | None = None


class Interpolant(Part, ABC):
    """A path x_t between x0 and x1."""

    @abstractmethod
    def sample(self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Point:
        """Return x_t and its velocity for x0, x1 of shape (B, *shape) and t of shape () or (B, ...)."""

    @property
    def gaussian_variable(self) -> str | None:
        """Which variable of the path has to be Gaussian for a score to exist: "x0", "z", or None (no score)."""
        return None
