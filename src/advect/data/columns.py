"""Arrays by name, per split, on their way to a table: layouts of pictures, and splits laid one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advect.data.splits import split_rows
from advect.data.table import Table
from advect.errors import InputError


@dataclass(eq=False)
class Columns:
    """The arrays of one split, unchecked.

    Args:
        x1: Data, (n, *shape).
        label: Class indices, or None.
        x0: The other end, or None.
        vectors: Real conditions by name.
    """

    x1: Tensor
    label: Tensor | None = None
    x0: Tensor | None = None
    vectors: dict[str, Tensor] = field(default_factory=dict)


def table_of(
    origin: str,
    parts: dict[str, Columns],
    classes: Sequence[str] | None,
    pictures: bool | None,
    fractions: dict[str, float],
    seed: int,
) -> Table:
    """Lay the splits one behind the other, and carve those that are absent from training.

    Args:
        origin: What to call the data in an error.
        parts: Columns by published split; ``{"train": ...}`` if there is one alone.
        classes: Names of the classes, or None.
        pictures: Whether x1 are pictures; None finds out from type, shape and range.
        fractions: What to hold out of training for a split that is not published.
        seed: Of what is held out.
    """
    first = parts["train"]
    for name, part in parts.items():
        for column in ("label", "x0"):
            if (getattr(part, column) is None) != (getattr(first, column) is None):
                raise InputError(
                    f"{origin}: {column} is given for some splits and not for others: "
                    f"give it for {name} as for train, or for none"
                )
        if part.x1.shape[1:] != first.x1.shape[1:]:
            raise InputError(
                f"{origin}: samples have shape {tuple(first.x1.shape[1:])} in train and "
                f"{tuple(part.x1.shape[1:])} in {name}: bring them to one shape"
            )

    def joined(values: list[Tensor]) -> Tensor:
        return values[0] if len(values) == 1 else torch.cat(values)

    x1 = joined([part.x1 for part in parts.values()])
    label = None if first.label is None else joined([part.label for part in parts.values() if part.label is not None])
    x0 = None if first.x0 is None else joined([part.x0 for part in parts.values() if part.x0 is not None])
    if pictures is None:
        pictures = _are_pictures(x1)
    if pictures:
        x1, x0 = _channels_first(origin, x1), None if x0 is None else _channels_first(origin, x0)
    usable = label is not None and label.ndim == 1 and len(label) == len(x1)  # if not, Table says what is wrong
    return Table(
        origin,
        x1,
        split_rows({name: len(part.x1) for name, part in parts.items()}, label if usable else None, fractions, seed),
        label,
        None if classes is None else tuple(classes),
        {name: joined([part.vectors[name] for part in parts.values()]) for name in first.vectors},
        x0,
        kind="image" if pictures else "array",
    )


def _are_pictures(x: Tensor) -> bool:
    """Bytes in three or four dimensions; or numbers in [-1, 1] of shape (N, 1 or 3, H, W)."""
    if x.dtype == torch.uint8:
        return x.ndim in (3, 4)
    return x.ndim == 4 and x.shape[1] in (1, 3) and bool((x.abs() <= 1.0).all())  # false for NaN, which Table names


def _channels_first(origin: str, x: Tensor) -> Tensor:
    """(N, H, W) and (N, H, W, C) to (N, C, H, W)."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[1] in (1, 3):
        return x
    if x.ndim == 4 and x.shape[3] in (1, 3):
        return x.permute(0, 3, 1, 2).contiguous()
    raise InputError(
        f"{origin}: x1 has shape {tuple(x.shape)}, but pictures are (N, H, W), (N, C, H, W) or (N, H, W, C) with 1 or "
        "3 channels: cut the channels down, or set pictures=False"
    )
