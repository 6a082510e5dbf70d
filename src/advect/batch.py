"""What travels from data to objective: data, conditions, and who goes with whom."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Batch:
    """A batch of training data.

    Attributes:
        x1: Data, shape (B, *shape), or (N, *shape) rows of ragged samples.
        cond: Conditions by name, batch first.
        x0: The other end where the data come in pairs (stored pairs, two domains); else None and drawn.
        rows: For ragged data the sample index (N,) of each row, which spreads `cond`; else None.
        weight: Weight per sample (B,), or None for one.
        dropped: Bool per sample (B,): its conditions were replaced by their null; None if nothing was dropped.
        extras: What else a method reads: pixels, ids, times. Names that begin with ``x0_`` belong to x0.
    """

    x1: Tensor
    cond: dict[str, Tensor] = field(default_factory=dict)
    x0: Tensor | None = None
    rows: Tensor | None = None
    weight: Tensor | None = None
    dropped: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x1.shape[0]

    def replace(self, **changes: object) -> Batch:
        """A copy with some attributes changed."""
        return Batch(**(self.__dict__ | changes))  # pyright: ignore[reportArgumentType]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """Move all tensors; floating ones also to `dtype` if given."""
        ahead = torch.device(device).type != "cpu"  # what comes back from a device must be there before it is read

        def move(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            return value.to(device, dtype if value.is_floating_point() else None, non_blocking=ahead)

        return Batch(
            x1=self.x1.to(device, dtype, non_blocking=ahead),
            cond={k: v for k, v in ((k, move(v)) for k, v in self.cond.items()) if v is not None},
            x0=move(self.x0),
            rows=move(self.rows),
            weight=move(self.weight),
            dropped=move(self.dropped),
            extras={k: v for k, v in ((k, move(v)) for k, v in self.extras.items()) if v is not None},
        )

    def select(self, index: Tensor) -> Batch:
        """The samples at `index`, with everything that belongs to them (not for ragged rows)."""

        def pick(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        return Batch(
            x1=self.x1[index],
            cond={k: v[index] for k, v in self.cond.items()},
            x0=pick(self.x0),
            weight=pick(self.weight),
            dropped=pick(self.dropped),
            extras={k: v[index] for k, v in self.extras.items()},
        )
