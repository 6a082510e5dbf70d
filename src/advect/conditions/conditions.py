"""The conditions of a model together, and their joint dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advect.batch import Batch
from advect.conditions.base import Condition
from advect.errors import InputError
from advect.parts import Part
from advect.randomness import rand


@dataclass(frozen=True)
class Conditions(Part):
    """A list of conditions and the probability with which SETS of them are dropped, per sample, in training.

    Args:
        items: The conditions, with distinct names.
        drop: Probability per set of names, names joined by commas: ``{"label": 0.1}`` or
            ``{"label": 0.05, "label,text": 0.1}``. The sets exclude each other; the sum is at most 1.
    """

    items: tuple[Condition, ...] = ()
    drop: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [item.name for item in self.items]
        if len(set(names)) != len(names):
            raise InputError(f"two conditions share a name: {names}")
        for key, probability in self.drop.items():
            unknown = set(key.split(",")) - set(names)
            if unknown:
                raise InputError(f"drop names {sorted(unknown)}, but the conditions are {names}")
            if not 0.0 <= probability <= 1.0:
                raise InputError(f"drop[{key!r}] is {probability}: a probability lies in [0, 1]")
        if math.fsum(self.drop.values()) > 1.0 + 1e-12:
            raise InputError(f"the probabilities of drop sum to {math.fsum(self.drop.values())}, above 1")

    def __hash__(self) -> int:
        return hash((self.items, tuple(sorted(self.drop.items()))))

    def __getitem__(self, name: str) -> Condition:
        for item in self.items:
            if item.name == name:
                return item
        raise InputError(f"no condition is called {name!r}: there are {[item.name for item in self.items]}")

    @property
    def null_is_trained(self) -> bool:
        """Whether all conditions together were dropped in training, so that the null of all of them means something."""
        names = {item.name for item in self.items}
        return any(set(key.split(",")) == names and probability > 0 for key, probability in self.drop.items())

    def check(self, cond: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Check given conditions against the declared ones."""
        return {name: self[name].check(value) for name, value in cond.items()}

    def null(self, cond: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The null of every condition, shaped like `cond`."""
        return {name: self[name].null(value) for name, value in cond.items()}

    def drop_from(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Replace dropped conditions by their null, one draw per sample; `batch.dropped` says where all were."""
        if not self.drop or not batch.cond:
            return batch
        n = next(iter(batch.cond.values())).shape[0]
        device = next(iter(batch.cond.values())).device
        u = rand((n,), generator, device=device)
        masks = {name: torch.zeros(n, dtype=torch.bool, device=device) for name in batch.cond}
        low = 0.0
        for key, probability in self.drop.items():
            hit = (u >= low) & (u < low + probability)
            low += probability
            for name in key.split(","):
                masks[name] |= hit
        cond = {}
        for name, value in batch.cond.items():
            mask = masks[name].reshape((n,) + (1,) * (value.ndim - 1))
            cond[name] = torch.where(mask, self[name].null(value), value)
        return batch.replace(cond=cond, dropped=torch.stack(list(masks.values())).all(0))
