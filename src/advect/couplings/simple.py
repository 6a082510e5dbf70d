"""Couplings that leave the batch as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.couplings.base import Coupling, Pairs


@dataclass(frozen=True)
class Independent(Coupling):
    """x0 is drawn without regard to x1."""

    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs | None:
        return None

    @property
    def independent(self) -> bool:
        return True


@dataclass(frozen=True)
class Paired(Coupling):
    """The data bring their own x0 (stored pairs, two domains); it is never drawn anew or shuffled."""

    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs | None:
        return None
