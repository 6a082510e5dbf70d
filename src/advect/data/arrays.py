"""NumPy files."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from advect.data.columns import Columns, table_of
from advect.data.splits import SPLITS
from advect.data.table import Table, TableData, as_tensor
from advect.errors import InputError


@dataclass(frozen=True)
class Arrays(TableData):
    """One ``.npy`` or ``.npz`` file, or a folder of ``train``, ``validation`` and ``test`` files.

    uint8 of shape (N, H, W), (N, C, H, W) or (N, H, W, C) are pictures, brought to [-1, 1]; all else becomes float32
    as it stands. Arrays of Python objects are pickles, and refused.

    Args:
        path: The file or folder.
        x1: Key of the data in an ``.npz``; None: ``x1``, or the only key.
        label: Key of class indices (N,); None: ``label`` if the file has it.
        x0: Key of the other end of each sample; None: ``x0`` if the file has it.
        vectors: Keys of real conditions, (N,) or (N, size), which keep their names.
        classes: Names of the classes; None numbers them.
        pictures: Whether samples are pictures; None: if uint8 as above, or (N, 1 or 3, H, W) in [-1, 1].
        validation: Share held out for validation if there is no file of it, in [0, 1).
        test: Share held out for testing if there is no file of it, in [0, 1).
        split_seed: Seed of what is held out.
    """

    path: str
    x1: str | None = None
    label: str | None = None
    x0: str | None = None
    vectors: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    pictures: bool | None = None
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0

    def _read(self) -> Table:
        parts = {name: self._columns(file) for name, file in self._files().items()}
        fractions = {"validation": self.validation, "test": self.test}
        return table_of(self.path, parts, self.classes, self.pictures, fractions, self.split_seed)

    def _files(self) -> dict[str, Path]:
        path = Path(self.path)
        if path.is_file():
            return {"train": path}
        if not path.is_dir():
            raise InputError(f"{path} does not exist: give an .npy or .npz file, or a folder that holds train.npz")
        found: dict[str, Path] = {}
        for name in SPLITS:
            files = [path / f"{name}{suffix}" for suffix in (".npz", ".npy") if (path / f"{name}{suffix}").is_file()]
            if files:
                found[name] = files[0]
        if "train" not in found:
            raise InputError(
                f"{path} holds neither train.npz nor train.npy: name the file itself if there is one alone"
            )
        return found

    def _columns(self, file: Path) -> Columns:
        arrays = read_arrays(file)

        def column(key: str | None, default: str) -> Tensor | None:
            name = default if key is None else key
            if name in arrays:
                return as_tensor(str(file), name, arrays[name])
            if key is None:
                return None
            raise InputError(f"{file} has no key {key!r}: it holds {sorted(arrays)}")

        only = next(iter(arrays)) if self.x1 is None and len(arrays) == 1 else self.x1
        x1 = column(only, "x1")
        if x1 is None:
            raise InputError(f"{file} has no key 'x1': it holds {sorted(arrays)}, say which of them is the data by x1=")
        vectors = {key: value for key in self.vectors if (value := column(key, key)) is not None}
        return Columns(x1, column(self.label, "label"), column(self.x0, "x0"), vectors)


def read_arrays(file: Path) -> dict[str, NDArray]:
    """The arrays of an ``.npz`` by key; that of an ``.npy`` as ``x1``."""
    with file.open("rb") as opened:
        head = opened.read(6)
    if not head.startswith((b"\x93NUMPY", b"PK")):  # numpy takes all else for a pickle
        raise InputError(f"{file} is damaged or no NumPy file: write it by np.save or np.savez")
    try:
        content = np.load(file, allow_pickle=False)
        return {"x1": content} if isinstance(content, np.ndarray) else {key: content[key] for key in content.files}
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise InputError(
                f"{file} holds Python objects (a pickle), which are never read: save plain arrays of numbers"
            ) from error
        raise InputError(f"{file} is damaged or no NumPy file: {error}") from error
    except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is damaged or no NumPy file: {error}") from error
