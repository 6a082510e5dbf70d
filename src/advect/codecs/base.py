"""The seat between data and state: scale, shift and latent spaces live here, fitted on data, applied here alone."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from advect.parts import ModulePart


class Codec(ModulePart, ABC):
    """A map between data and the state that is transported."""

    @abstractmethod
    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Data (B, *shape) to state (B, *latent_shape)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """State to data."""

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The state's shape for data of `shape` (without batch)."""
        return shape

    def log_abs_det(self, shape: tuple[int, ...]) -> float | None:
        """log |det d encode / dx| where it is a constant, so that densities can be given in data units; else None."""
        return None
