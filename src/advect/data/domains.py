"""Two data sets, one at each end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from advect.batch import Batch
from advect.conditions import Condition
from advect.data.base import Data, Split
from advect.data.splits import SPLITS
from advect.errors import InputError
from advect.randomness import generator as seeded
from advect.randomness import randint


@dataclass(frozen=True)
class TwoDomains(Data):
    """Samples of `b` at t=1 with samples of `a` at t=0: domain transfer, or stored pairs of any two formats.

    Unpaired, each sample of b meets one of a, drawn afresh from the generator of the batch (training);
    without a generator (evaluation) its partner is a function of its number and `seed`. Conditions are those of b;
    classes of a, if it has any, are ``batch.extras["x0_label"]``.

    Args:
        a: Data at t=0.
        b: Data at t=1, of the same shape.
        paired: Whether sample i of a belongs to sample i of b; the splits then have one size.
        seed: Of the partners where no generator is passed.
    """

    a: Data
    b: Data
    paired: bool = False
    seed: int = 0

    @cached_property
    def partners(self) -> dict[str, Tensor]:
        """The number in a of the partner of each sample of b, where no generator is passed."""
        if self.a.shape != self.b.shape:
            raise InputError(f"a has samples of shape {self.a.shape} and b of {self.b.shape}: bring them to one shape")
        found: dict[str, Tensor] = {}
        for split in SPLITS:
            n, wanted = self.a.size(split), self.b.size(split)
            if self.paired and n != wanted:
                raise InputError(
                    f"paired is True, but a has {n} samples in {split} and b has {wanted}: set paired=False"
                )
            if n and wanted:
                draw = seeded(self.seed, "partners", split)
                found[split] = torch.arange(n) if self.paired else randint(n, (wanted,), draw)
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return self.b.shape

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self.b.conditions

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.b.class_names

    @property
    def kind(self) -> Literal["image", "array"]:
        return self.b.kind

    def size(self, split: Split = "train") -> int:
        return len(self.partners.get(split, ()))

    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        if split not in self.partners:
            raise InputError(f"there is no split {split!r} in both of a and b: there are {sorted(self.partners)}")
        ends = self.b.batch(split, index, generator)
        if generator is None or self.paired:
            partner = self.partners[split][index]
        else:
            partner = randint(self.a.size(split), (len(index),), generator).to(index.device)
        start = self.a.batch(split, partner, generator)
        extras = {**ends.extras, **({"x0_label": start.cond["label"]} if "label" in start.cond else {})}
        return ends.replace(x0=start.x1, extras=extras)
