"""The seat "who goes with whom": which x0 is paired with which x1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import Part


class Pairs(NamedTuple):
    """Indices into the batch: x0[i0] goes with x1[i1] (None: as they stand); log_weight (B,) per pair or None."""

    i0: Tensor | None = None
    i1: Tensor | None = None
    log_weight: Tensor | None = None


class Coupling(Part, ABC):
    """A rule that pairs a batch of x0 with a batch of x1."""

    @abstractmethod
    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs | None:
        """Pair x0 (B, *shape) with x1 (B, *shape); None means as they stand."""

    @property
    def independent(self) -> bool:
        """Whether x0 and x1 stay independent: only then does the velocity give a score."""
        return False

    @property
    def fitted(self) -> bool:
        """Whether it is ready; one that is found on data is fitted at the start of training."""
        return True

    def fit(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Find its numbers on draws of both ends (N, *shape), in place; called by training where `fitted` is False."""
        raise InputError(f"{type(self).__name__} is not found on data: there is nothing to fit")
