"""The three real data sets that ship inside the package, each with a fixed split.

What they are, who made them and under which licence stands in ``builtin/README.md``; ``scripts/make_builtin_data.py``
wrote the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advect.data.base import Split
from advect.data.splits import SPLITS
from advect.data.table import Table, TableData
from advect.errors import require
from advect.files import read_json

FOLDER = Path(__file__).parent / "builtin"
TILE = 32


def _rows(split: Any) -> dict[str, Tensor]:
    of_row = torch.as_tensor(split)
    return {name: (of_row == number).nonzero().flatten() for number, name in enumerate(SPLITS)}


def _tiles(file: str, n: int) -> Tensor:
    """Cut a sheet of tiles into uint8 (n, C, 32, 32)."""
    image = require("PIL.Image", "images", "reading the built-in pictures")
    with image.open(FOLDER / file) as picture:
        sheet = np.asarray(picture.convert("L" if file == "emoji_mask.webp" else "RGB"))
    sheet = sheet.reshape(sheet.shape[0], sheet.shape[1], -1)
    down, across = sheet.shape[0] // TILE, sheet.shape[1] // TILE
    tiles = sheet.reshape(down, TILE, across, TILE, -1).transpose(0, 2, 4, 1, 3)
    return torch.from_numpy(tiles.reshape(down * across, -1, TILE, TILE)[:n].copy())


@dataclass(frozen=True)
class Digits(TableData):
    """Handwritten digits: 1,797 pictures of 8x8, one channel, ten classes.

    Train 1,259, validation 179, test 359, each class alike. Grey has 17 levels; level k is k / 8 - 1. Needs no extra.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998), as scikit-learn ships it.
    """

    def _read(self) -> Table:
        with np.load(FOLDER / "digits.npz") as file:
            images, labels, split = (torch.from_numpy(file[name]) for name in ("images", "labels", "split"))
        return Table("the built-in digits", images[:, None], _rows(split), labels, top=16, kind="image")


@dataclass(frozen=True)
class Emoji(TableData):
    """3-D rendered emoji on white: 3,166 pictures of 32x32, RGB, labelled by group (9); MIT licence.

    Train 2,527, validation 320, test 319; all skin tones and genders of an emoji, and pictures that look alike at this
    size, are in one split.
    ``batch.extras["mask"]`` is the alpha channel, (B, 1, 32, 32) in [0, 1].
    """

    def _read(self) -> Table:
        columns = self._columns()
        n = len(columns["label"])
        return Table(
            "the built-in emoji",
            _tiles("emoji.webp", n),
            _rows(columns["split"]),
            torch.tensor(columns["label"]),
            tuple(columns["groups"]),
            extras={"mask": _tiles("emoji_mask.webp", n)},
            kind="image",
        )

    def captions(self, split: Split = "train") -> tuple[str, ...]:
        """The English name of every sample of a split, in order."""
        captions = self._columns()["caption"]
        return tuple(captions[row] for row in self.table.rows[split].tolist())

    def pairs(self, split: Split = "train") -> Tensor:
        """The same emoji without and with a skin tone: int64 (P, 3) of base, toned and tone (1 light to 5 dark).

        Base and toned are numbers in this split, fit for :meth:`batch`.
        """
        columns = self._columns()
        rows = self.table.rows[split]
        number = torch.full((len(columns["label"]),), -1)
        number[rows] = torch.arange(len(rows))
        base, tone = torch.tensor(columns["base"]), torch.tensor(columns["tone"])
        toned = rows[base[rows] >= 0]
        return torch.stack([number[base[toned]], number[toned], tone[toned]], 1)

    @staticmethod
    def _columns() -> dict[str, Any]:
        return read_json(FOLDER / "emoji.json")


@dataclass(frozen=True)
class Clothing(TableData):
    """Photographs of clothes: 3,781 pictures of 32x32, RGB, ten classes; CC0.

    Split as published: train 3,068, validation 341, test 372.
    """

    def _read(self) -> Table:
        columns = read_json(FOLDER / "clothing.json")
        return Table(
            "the built-in clothing",
            _tiles("clothing.jpg", len(columns["label"])),
            _rows(columns["split"]),
            torch.tensor(columns["label"]),
            tuple(columns["classes"]),
            kind="image",
        )
