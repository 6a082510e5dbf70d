"""Which rows are for training, validation and test: a function of a seed, or as published."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.data.base import Split
from advect.errors import InputError
from advect.randomness import generator, randperm

SPLITS: tuple[Split, Split, Split] = ("train", "validation", "test")


def carve(rows: Tensor, labels: Tensor | None, fractions: dict[str, float], seed: int) -> dict[str, Tensor]:
    """Hold out fractions of `rows`, of each class alike if there are labels; what is left is for training.

    Args:
        rows: Row numbers, int64 (n,).
        labels: Class of every row of the data (not of `rows` alone), or None.
        fractions: Share per split that is to be held out.
        seed: Of the permutation.

    Returns:
        Rows by split, each in ascending order.
    """
    for name, fraction in fractions.items():
        if not 0.0 <= fraction < 1.0:
            raise InputError(f"{name} is {fraction}: the share that is held out lies in [0, 1)")
    if sum(fractions.values()) >= 1.0:
        raise InputError(f"the shares held out, {fractions}, leave nothing to train on: let them sum to less than 1")
    shuffled = rows[randperm(len(rows), generator(seed, "split"))]
    if labels is None:
        groups = [shuffled]
    else:
        of_row = labels[shuffled]
        groups = [shuffled[of_row == label] for label in of_row.unique()]
    held: dict[str, list[Tensor]] = {name: [] for name in ("train", *fractions)}
    for group in groups:
        start = 0
        for name, fraction in fractions.items():
            count = round(fraction * len(group))
            held[name].append(group[start : start + count])
            start += count
        held["train"].append(group[start:])
    return {name: torch.cat(parts).sort().values for name, parts in held.items()}


def split_rows(
    sizes: dict[str, int], labels: Tensor | None, fractions: dict[str, float], seed: int
) -> dict[str, Tensor]:
    """Rows by split where the splits lie one behind the other; one that is absent is carved from training.

    Args:
        sizes: How many rows each published split has, in order; ``{"train": n}`` if there is one file alone.
        labels: Class of every row, or None.
        fractions: What to hold out of training for a split that is not in `sizes`.
        seed: Of the permutation.
    """
    rows: dict[str, Tensor] = {}
    start = 0
    for name, size in sizes.items():
        rows[name] = torch.arange(start, start + size)
        start += size
    wanted: dict[str, float] = {name: fraction for name, fraction in fractions.items() if name not in rows}
    return {**rows, **carve(rows["train"], labels, wanted, seed)}
