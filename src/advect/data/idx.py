"""The idx files of MNIST and its relatives."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advect.data.columns import Columns, table_of
from advect.data.table import Table, TableData, as_tensor
from advect.errors import InputError

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PREFIXES: dict[str, tuple[str, ...]] = {"train": ("train",), "test": ("t10k", "test")}


@dataclass(frozen=True)
class Idx(TableData):
    """A folder of idx files as MNIST and Fashion-MNIST are published, gzipped or not.

    ``train-images-idx3-ubyte[.gz]``, ``train-labels-idx1-ubyte[.gz]``, and the same of ``t10k``, which are the test
    split; the labels may be missing. The format: two zero bytes, a type, the number of dimensions, the dimensions as
    big-endian 32-bit integers, the values (Y. LeCun, C. Cortes, C. Burges, The MNIST database).

    Args:
        path: The folder.
        classes: Names of the classes; None numbers them.
        validation: Share of the training files held out for validation, in [0, 1).
        test: Share held out for testing if there are no test files, in [0, 1).
        split_seed: Seed of what is held out.
    """

    path: str
    classes: tuple[str, ...] | None = None
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0

    def _read(self) -> Table:
        folder = Path(self.path)
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder: give the folder that holds train-images-idx3-ubyte or its .gz")
        parts: dict[str, Columns] = {}
        for split, prefixes in PREFIXES.items():
            if (images := _find(folder, prefixes, "images")) is not None:
                labels = _find(folder, prefixes, "labels")
                parts[split] = Columns(
                    as_tensor(str(images), "images", read_idx(images)),
                    None if labels is None else as_tensor(str(labels), "labels", read_idx(labels)),
                )
        if "train" not in parts:
            held = sorted(file.name for file in folder.iterdir())[:5]
            raise InputError(
                f"{folder} holds no train-images-idx3-ubyte or its .gz, but {held or 'nothing'}: name their folder"
            )
        fractions = {"validation": self.validation, "test": self.test}
        return table_of(self.path, parts, self.classes, None, fractions, self.split_seed)


def _find(folder: Path, prefixes: tuple[str, ...], what: str) -> Path | None:
    files = [file for prefix in prefixes for file in sorted(folder.glob(f"{prefix}*{what}*")) if file.is_file()]
    return files[0] if files else None


def read_idx(file: Path) -> NDArray:
    """One idx file as an array; a damaged one is an InputError that names it."""
    content = file.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{file} is damaged ({error}): fetch it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise InputError(f"{file} is not an idx file: it starts with {content[:4].hex(' ') or 'nothing'}")
    kind, dimensions = np.dtype(TYPES[content[2]]), content[3]
    start = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], ">u4"))
    wanted = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if len(content) - start != wanted:
        raise InputError(
            f"{file} is cut short or damaged: shape {shape} takes {wanted} bytes, and {len(content) - start} are there"
        )
    return np.frombuffer(content, kind, offset=start).reshape(shape)
