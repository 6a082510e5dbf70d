"""The seat "who is at t=0"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import Part


class Source(Part, ABC):
    """The distribution at t=0."""

    @abstractmethod
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
        """Draw x0 of `shape` (batch first). `rows` names the sample of each row; some training sources read x1."""

    @property
    def gaussian(self) -> tuple[float, float] | None:
        """(mean, standard deviation) if the source is an isotropic Gaussian, else None."""
        return None

    @property
    def location_scale(self) -> tuple[float, float] | None:
        """(m, s) if x0 = m + s e, e of a fixed law around 0: what "epsilon", "F" and "trigflow" are measured in."""
        return self.gaussian

    @property
    def fitted(self) -> bool:
        """Whether it is ready; one that is found on data is fitted at the start of training."""
        return True

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> Any:
        """Find its numbers on data (N, *shape), in place; called by training where `fitted` is False."""
        raise InputError(f"{type(self).__name__} is not found on data: there is nothing to fit")

    @property
    def needs_x1(self) -> bool:
        """Whether sampling reads the data: such a source serves training only."""
        return False

    def stands_for(self, trained: Source) -> bool:
        """Whether a flow that was trained from `trained` may be started from this one: they are of one family."""
        if self.gaussian is None or trained.gaussian is None:
            return type(self) is type(trained) and self.gaussian == trained.gaussian
        return True

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """grad log p0(x0), shape of x0, or None if the source has no known score."""
        return None

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        """log p0(x0), shape (B,), or None if the source has no known density."""
        return None
