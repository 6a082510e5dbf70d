"""Data in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from advect.data.columns import Columns, table_of
from advect.data.table import Table, TableData, as_tensor
from advect.errors import InputError

Array = Tensor | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Tensors(TableData):
    """Tensors or NumPy arrays in memory.

    A recipe that is written down names them by shape and digest: they cannot be rebuilt from it.

    Args:
        x1: Data, (N, *shape). uint8 of shape (N, H, W), (N, C, H, W) or (N, H, W, C) are pictures, kept as bytes and
            brought to [-1, 1] per batch; all else becomes float32 as it stands.
        label: Class indices (N,), or None.
        vectors: Real conditions by name, (N,) or (N, size).
        x0: The other end of each sample, shaped like x1: paired data.
        classes: Names of the classes; None numbers them.
        pictures: Whether samples are pictures; None: if uint8 as above, or (N, 1 or 3, H, W) in [-1, 1].
        validation: Share held out for validation, in [0, 1).
        test: Share held out for testing, in [0, 1).
        split_seed: Seed of what is held out.
    """

    x1: Array
    label: Array | None = None
    vectors: Mapping[str, Array] | None = None
    x0: Array | None = None
    classes: tuple[str, ...] | None = None
    pictures: bool | None = None
    validation: float = 0.0
    test: float = 0.0
    split_seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.x1, (Tensor, np.ndarray)):
            raise InputError(
                f"x1 is a {type(self.x1).__name__}: Tensors takes tensors or NumPy arrays, which no recipe can hold; "
                "write them to an .npz file and use Arrays"
            )

    def init_args(self) -> dict[str, Any]:
        """The arguments, tensors replaced by shape, type and digest."""
        return {name: _described(value) for name, value in super().init_args().items()}

    def _read(self) -> Table:
        columns = Columns(
            as_tensor("Tensors", "x1", self.x1),
            None if self.label is None else as_tensor("Tensors", "label", self.label),
            None if self.x0 is None else as_tensor("Tensors", "x0", self.x0),
            {name: as_tensor("Tensors", name, value) for name, value in (self.vectors or {}).items()},
        )
        fractions = {"validation": self.validation, "test": self.test}
        return table_of("Tensors", {"train": columns}, self.classes, self.pictures, fractions, self.split_seed)


def _described(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _described(item) for key, item in value.items()}
    if not isinstance(value, (Tensor, np.ndarray)):
        return value
    array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
    return f"{array.dtype} {array.shape} {hashlib.sha256(array.data).hexdigest()[:16]}"
