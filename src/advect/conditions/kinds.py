"""Kinds of condition."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advect.conditions.base import Condition, Enters
from advect.errors import InputError


@dataclass(frozen=True)
class ClassLabel(Condition):
    """A class index per sample, int64 (B,) in [0, classes); the null class is `classes`.

    Args:
        classes: Number of classes.
        name: Name in `Batch.cond` and in `Flow.sample(name=...)`.
    """

    classes: int
    name: str = "label"

    @property
    def enters(self) -> Enters:
        return "vector"

    @property
    def width(self) -> int:
        return self.classes

    @property
    def discrete(self) -> bool:
        return True

    def null(self, like: Tensor) -> Tensor:
        return torch.full_like(like, self.classes)

    def check(self, value: Tensor) -> Tensor:
        if value.is_floating_point() or value.ndim != 1:
            raise InputError(
                f"{self.name}: class labels are integers of shape (B,), not {value.dtype} {tuple(value.shape)}"
            )
        low, high = int(value.min()), int(value.max())
        if low < 0 or high > self.classes:
            raise InputError(
                f"{self.name}: labels run from {low} to {high}, but there are {self.classes} classes, "
                f"0 to {self.classes - 1} ({self.classes} is the null class): mend the labels"
                + (f" or set classes={high + 1}" if low >= 0 else "")
            )
        return value.long()


@dataclass(frozen=True)
class Vector(Condition):
    """A real vector per sample, (B, size); the null is zero.

    Args:
        size: Number of features.
        name: Name in `Batch.cond`.
    """

    size: int
    name: str = "vector"

    @property
    def width(self) -> int:
        return self.size

    @property
    def enters(self) -> Enters:
        return "vector"

    @property
    def discrete(self) -> bool:
        return False

    def read(self, value: Any) -> Tensor:
        """As of every condition; a number in words is one too, and a number alone is a vector of one."""
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        out = super().read(value)
        return out[None] if out.ndim == 0 else out

    def null(self, like: Tensor) -> Tensor:
        return torch.zeros_like(like)

    def check(self, value: Tensor) -> Tensor:
        if value.ndim != 2 or value.shape[1] != self.size:
            raise InputError(f"{self.name}: expected shape (B, {self.size}), got {tuple(value.shape)}")
        return value.float() if not value.is_floating_point() else value
