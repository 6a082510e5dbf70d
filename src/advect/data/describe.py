"""A summary of data for reports and dry runs."""

from __future__ import annotations

from typing import Any

import torch

from advect.data.base import Data
from advect.data.splits import SPLITS


def describe(data: Data, look_at: int = 256) -> dict[str, Any]:
    """Open the data and say what they are, in plain values that JSON can hold.

    Args:
        data: Any data.
        look_at: How many training samples the range, mean and standard deviation are taken from (spread evenly).

    Returns:
        ``name``, ``kind``, ``shape``, ``splits`` (samples by split), ``classes`` (names, or None), ``conditions``
        (name to width), ``paired`` (whether batches bring their x0), ``range`` (smallest, largest), ``mean``, ``std``.
    """
    n = data.size("train")
    batch = data.batch("train", torch.arange(0, n, max(1, -(-n // look_at))))
    return {
        "name": type(data).__name__,
        "kind": data.kind,
        "shape": list(data.shape),
        "splits": {split: data.size(split) for split in SPLITS},
        "classes": None if data.class_names is None else list(data.class_names),
        "conditions": {condition.name: condition.width for condition in data.conditions},
        "paired": batch.x0 is not None,
        "range": [float(batch.x1.min()), float(batch.x1.max())],
        "mean": float(batch.x1.mean()),
        "std": float(batch.x1.std()),
    }
