"""The seat between data and state: scale, shift and latent spaces live here, fitted on data, applied here alone."""

from __future__ import annotations

import itertools
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

    @torch.no_grad()
    def data_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the data behind states of `shape`, both without batch: what a state of zeros decodes to."""
        tensors = itertools.chain(self.parameters(), self.buffers())
        own = next((value for value in tensors if value.is_floating_point()), torch.zeros(()))
        return tuple(self.decode(torch.zeros(1, *shape, device=own.device, dtype=own.dtype)).shape[1:])

    def log_abs_det(self, shape: tuple[int, ...]) -> float | None:
        """log |det d encode / dx| where it is a constant, so that densities can be given in data units; else None."""
        return None
