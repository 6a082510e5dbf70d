"""What a format reads when it is opened: checked columns, the rows of each split, and batches cut from them."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from advect.batch import Batch
from advect.conditions import ClassLabel, Condition, Vector
from advect.data.base import Data, Split
from advect.data.pictures import Pictures
from advect.errors import InputError


@dataclass(eq=False)
class Table:
    """Columns and the rows of each split; everything a user can get wrong is checked here.

    Args:
        origin: What to call the data in an error: the path.
        x1: Data, (N, *shape): uint8 pictures (kept so, converted per batch), or numbers that become float32.
        rows: Row numbers by split.
        labels: Class indices (N,), or None.
        class_names: Names of the classes; None counts them up to the largest label.
        vectors: Real conditions by name, (N,) or (N, size).
        x0: The other end of each sample, shaped like x1, or None.
        extras: Further columns by name; uint8 ones are converted to [0, 1] per batch.
        top: The byte that stands for white: 255, or 16 for the digits.
        kind: How samples are shown.
    """

    origin: str
    x1: Tensor | Pictures
    rows: dict[str, Tensor]
    labels: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    vectors: dict[str, Tensor] = field(default_factory=dict)
    x0: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    top: int = 255
    kind: Literal["image", "array"] = "array"

    def __post_init__(self) -> None:
        n = len(self.x1)
        if isinstance(self.x1, Tensor):
            if self.x1.ndim == 1:
                raise InputError(
                    f"{self.origin}: x1 has shape {tuple(self.x1.shape)}, a row of single numbers: reshape it to (N, 1)"
                )
            self.x1 = _numbers(self.origin, "x1", self.x1, self.kind)
            if self.kind == "image" and self.x1.is_floating_point() and n:
                low, high = float(self.x1.min()), float(self.x1.max())
                if low < -1.0 or high > 1.0:
                    raise InputError(
                        f"{self.origin}: x1 runs from {low:g} to {high:g}, but pictures lie in [-1, 1] or are uint8: "
                        "rescale them, or set pictures=False"
                    )
        if self.x0 is not None:
            self.x0 = _numbers(self.origin, "x0", self.x0, self.kind)
            if self.x0.shape != self.x1.shape:
                raise InputError(
                    f"{self.origin}: x0 has shape {tuple(self.x0.shape)} and x1 {tuple(self.x1.shape)}: "
                    "pairs have one shape at both ends"
                )
        for name, value in self.vectors.items():
            value = _numbers(self.origin, name, value.float() if value.dtype == torch.uint8 else value, "array")
            if value.ndim > 2:
                raise InputError(
                    f"{self.origin}: the condition {name} has shape {tuple(value.shape)}: it is (N,) or (N, size)"
                )
            self.vectors[name] = value[:, None] if value.ndim == 1 else value
        columns = {"labels": self.labels, **self.vectors, **self.extras}
        for name, value in columns.items():
            if value is not None and len(value) != n:
                raise InputError(f"{self.origin}: {name} has {len(value)} rows and x1 has {n}: give one row per sample")
        if len(self.rows["train"]) == 0:
            raise InputError(
                f"{self.origin}: nothing is left to train on ({n} samples in all): hold out less, or add data"
            )
        if self.labels is not None:
            self.labels, self.class_names = _classes(self.origin, self.labels, self.class_names, self.rows["train"])

    def take(self, rows: Tensor) -> Batch:
        """The samples in these rows."""
        cond = {name: value[rows] for name, value in self.vectors.items()}
        if self.labels is not None:
            cond["label"] = self.labels[rows]
        return Batch(
            x1=self._float(self.x1[rows]),
            cond=cond,
            x0=None if self.x0 is None else self._float(self.x0[rows]),
            extras={name: _unit(value[rows]) for name, value in self.extras.items()},
        )

    def _float(self, value: Tensor) -> Tensor:
        """Bytes 0..top to [-1, 1], both ends exact."""
        return value.float().div_(self.top / 2).sub_(1.0) if value.dtype == torch.uint8 else value


class TableData(Data):
    """Data that are a :class:`Table` once opened: all formats that this package reads."""

    @abstractmethod
    def _read(self) -> Table:
        """Open the files."""

    @cached_property
    def table(self) -> Table:
        """The columns, read and checked at the first use."""
        return self._read()

    @final
    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.table.x1.shape[1:])

    @final
    @property
    def conditions(self) -> tuple[Condition, ...]:
        table = self.table
        names = table.class_names
        label = () if table.labels is None or names is None else (ClassLabel(len(names)),)
        return (*label, *(Vector(value.shape[1], name) for name, value in table.vectors.items()))

    @final
    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.table.class_names

    @final
    @property
    def kind(self) -> Literal["image", "array"]:
        return self.table.kind

    @final
    def size(self, split: Split = "train") -> int:
        return len(self.table.rows.get(split, ()))

    @final
    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        table = self.table
        if split not in table.rows:
            raise InputError(f"{table.origin} has no split {split!r}: there are {sorted(table.rows)}")
        return table.take(table.rows[split][index])


def as_tensor(origin: str, name: str, value: Any) -> Tensor:
    """An array, list or tensor of numbers as a tensor; object arrays, text and the like are refused."""
    if np.ndim(value) == 0:
        raise InputError(f"{origin}: {name} is a single value: the first dimension counts samples")
    if isinstance(value, Tensor):
        return value.detach().cpu()
    array = np.asarray(value)
    if array.dtype == object:
        raise InputError(
            f"{origin}: {name} is an array of Python objects, which only a pickle can hold and which may be ragged: "
            "give an array of numbers"
        )
    if array.dtype.kind not in "buif":
        raise InputError(f"{origin}: {name} has type {array.dtype}: give integers or real numbers")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _numbers(origin: str, name: str, value: Tensor, kind: str) -> Tensor:
    """float32 without NaN, or uint8 pictures."""
    if value.dtype == torch.uint8 and kind == "image":
        return value
    if value.dtype == torch.bool or value.is_complex():
        raise InputError(f"{origin}: {name} has type {value.dtype}: give integers or real numbers")
    value = value.float()
    # The sum is finite only if all terms are, and costs no second array; a sum that overflows is looked into.
    if not bool(torch.isfinite(value.sum())):
        bad = (~torch.isfinite(value)).nonzero()
        if len(bad):
            row, *column = bad[0].tolist()
            where = f"row {row}" + (f", column {column[0] if len(column) == 1 else tuple(column)}" if column else "")
            raise InputError(
                f"{origin}: {name} holds {float(value[row, *column])} in {where} "
                f"({len(bad[:, 0].unique())} rows in all): fill or remove them"
            )
    return value


def _classes(
    origin: str, labels: Tensor, names: tuple[str, ...] | None, train: Tensor
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as int64 in [0, classes), with a name for each class."""
    if labels.ndim != 1:
        hint = ": for one-hot rows give labels.argmax(1)" if labels.ndim == 2 else ""
        raise InputError(f"{origin}: labels have shape {tuple(labels.shape)}, not (N,){hint}")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"{origin}: labels have type {labels.dtype}: cast them to integers 0, 1, ...")
    labels = labels.long()
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (names is not None and high >= len(names)):
        row = int((labels == (low if low < 0 else high)).nonzero()[0])
        top = "" if names is None else f" to {len(names) - 1}"
        raise InputError(
            f"{origin}: the label of row {row} is {low if low < 0 else high}, but classes are numbered from 0{top}: "
            "number the classes from 0 without gaps"
        )
    names = tuple(str(i) for i in range(high + 1)) if names is None else names
    counts = torch.bincount(labels[train], minlength=len(names))
    missing = [names[i] for i in (counts == 0).nonzero().flatten().tolist()]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        warnings.warn(
            f"{origin}: {len(missing)} of {len(names)} classes have no training sample ({shown}): "
            "a model cannot learn them; remove the class, or add samples",
            stacklevel=2,
        )
    return labels, names


def _unit(value: Tensor) -> Tensor:
    return value.float().div_(255.0) if value.dtype == torch.uint8 else value
