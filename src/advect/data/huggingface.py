"""Data sets of the Hugging Face library ``datasets``, by name or from local files."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from advect.data.columns import Columns, table_of
from advect.data.pictures import Pictures, Resize
from advect.data.splits import SPLITS, split_rows
from advect.data.table import Table, TableData, as_tensor
from advect.errors import InputError, require


@dataclass(frozen=True)
class HuggingFace(TableData):
    """A data set of the hub by name, or local files through its loaders.

    ``HuggingFace("mnist")``, ``HuggingFace("imagefolder", data_dir="photos")``,
    ``HuggingFace("parquet", data_files={"train": "a.parquet"})``. A column of pictures gives pictures, one of numbers
    or lists of one length gives arrays. No code of a data set is run.

    Args:
        name: Name on the hub, or of a loader: imagefolder, parquet, csv, json, arrow.
        column: The column that is the data; None: the only picture column, or ``x1``.
        label: The column of class numbers; None: the only column declared as classes, or ``label``.
        vectors: Columns of real conditions, which keep their names.
        config: Configuration of the data set.
        revision: Commit or tag on the hub.
        data_dir: Folder for a loader.
        data_files: File (or pattern) by split for a loader.
        splits: Which of its splits is "train", "validation", "test"; None: those of these names.
        resolution: Height and width of all pictures; None: they must have one size already.
        resize: How a picture comes to that size: cut the middle, pad with white, or stretch.
        validation: Share held out for validation if there is no such split, in [0, 1).
        test: Share held out for testing if there is no such split, in [0, 1).
        split_seed: Seed of what is held out.
        memory_gb: Decoded pictures stay in memory if they take no more than this; else they are decoded per batch.
    """

    name: str
    column: str | None = None
    label: str | None = None
    vectors: tuple[str, ...] = ()
    config: str | None = None
    revision: str | None = None
    data_dir: str | None = None
    data_files: dict[str, str] | None = field(default=None, hash=False)
    splits: dict[str, str] | None = field(default=None, hash=False)
    resolution: int | tuple[int, int] | None = None
    resize: Resize = "crop"
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    memory_gb: float = 4.0

    def _read(self) -> Table:
        datasets = require("datasets", "hf", "reading data sets of the Hugging Face hub")
        parts = self._load(datasets)
        features = parts["train"].features
        column = self._column(features, datasets.Image, self.column, "x1", "column")
        if column is None:
            raise InputError(f"{self.name} has columns {sorted(features)}: say which of them is the data by column=")
        label = self._column(features, datasets.ClassLabel, self.label, "label", "label")
        names = tuple(features[label].names) if label and isinstance(features[label], datasets.ClassLabel) else None
        fractions: dict[str, float] = {"validation": self.validation, "test": self.test}
        if not isinstance(features[column], datasets.Image):
            columns = {
                split: Columns(
                    self._array(part, column),
                    None if label is None else self._array(part, label),
                    vectors={key: self._array(part, key) for key in self.vectors},
                )
                for split, part in parts.items()
            }
            return table_of(self.name, columns, names, None, fractions, self.split_seed)
        whole = datasets.concatenate_datasets([part.select_columns(column) for part in parts.values()])
        whole = whole.cast_column(column, datasets.Image(decode=False))
        stored = [(split, row) for split, part in parts.items() for row in range(len(part))]
        pictures = Pictures(
            [f"{self.name}, row {row} of {split}" for split, row in stored],
            lambda number: _opened(whole[number][column]),
            self.resolution,
            self.resize,
            self.name,
        )
        labels = None if label is None else torch.cat([self._array(part, label) for part in parts.values()])
        return Table(
            self.name,
            pictures.loaded(self.memory_gb),
            split_rows({split: len(part) for split, part in parts.items()}, labels, fractions, self.split_seed),
            labels,
            names,
            {key: torch.cat([self._array(part, key) for part in parts.values()]) for key in self.vectors},
            kind="image",
        )

    def _load(self, datasets: Any) -> dict[str, Any]:
        """The published splits that are wanted."""
        try:
            loaded = datasets.load_dataset(
                self.name,
                self.config,
                data_dir=self.data_dir,
                data_files=self.data_files,
                revision=self.revision,
            )
        except Exception as error:  # of the hub client, the loaders, Arrow and the network
            raise InputError(f"the data set {self.name!r} cannot be loaded: {str(error).splitlines()[0]}") from error
        wanted = self.splits or {split: split for split in SPLITS if split in loaded}
        parts: dict[str, Any] = {}
        for split in SPLITS:
            if split in wanted:
                if wanted[split] not in loaded:
                    raise InputError(f"{self.name} has no split {wanted[split]!r}: there are {sorted(loaded)}")
                parts[split] = loaded[wanted[split]]
        if "train" not in parts:
            raise InputError(
                f"{self.name} has the splits {sorted(loaded)}: say which is for training by splits={{'train': ...}}"
            )
        return parts

    def _column(self, features: Any, kind: type, given: str | None, default: str, argument: str) -> str | None:
        """The column that is named, or the only one of a kind, or the one of the default name."""
        if given is not None:
            if given not in features:
                raise InputError(f"{argument} is {given!r}, but {self.name} has the columns {sorted(features)}")
            return given
        of_kind = [key for key, feature in features.items() if isinstance(feature, kind)]
        return of_kind[0] if len(of_kind) == 1 else (default if default in features else None)

    def _array(self, part: Any, key: str) -> Tensor:
        if key not in part.features:
            raise InputError(f"{self.name} has no column {key!r}: there are {sorted(part.features)}")
        try:
            value = np.asarray(part.with_format("numpy")[key][:])
        except ValueError as error:
            raise InputError(f"{self.name}: the rows of column {key} differ in length: bring them to one") from error
        return as_tensor(self.name, key, value)


def _opened(stored: dict[str, Any]) -> BinaryIO:
    """A picture is kept as bytes, or as the path of its file."""
    return open(stored["path"], "rb") if stored["bytes"] is None else io.BytesIO(stored["bytes"])
