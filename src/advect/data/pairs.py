"""Stored pairs: a coupling made once and kept on disk, whose batches bring their own x0 (reflow, segments, editing)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advect.batch import Batch
from advect.conditions import Condition
from advect.data.base import Data, Split
from advect.errors import InputError
from advect.files import read_json, sha256
from advect.parts import build
from advect.randomness import seed_of
from advect.sources import Source

FORMAT = 1
INDEX = "pairs.json"


def seeded_source(
    source: Source,
    shape: tuple[int, ...],
    seed: int,
    index: Tensor,
    cond: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Draw x0 of the pairs with these numbers, each from (seed, number) alone.

    Args:
        source: Who is at t=0.
        shape: Shape of one state.
        seed: The seed of the pairs.
        index: Numbers of the pairs, int64 (B,).
        cond: Their conditions, batch first.

    Returns:
        x0, float32 (B, *shape). One generator is seeded anew for each row: about 10 microseconds a row.
    """
    generator = torch.Generator()
    rows = []
    for place, number in enumerate(index.tolist()):
        generator.manual_seed(seed_of(seed, "pairs", number))
        one = {name: value[place : place + 1] for name, value in (cond or {}).items()}
        rows.append(source.sample((1, *shape), one, generator, dtype=torch.float32))
    return torch.cat(rows) if rows else torch.empty(0, *shape)


@dataclass(frozen=True)
class StoredPairs(Data):
    """Pairs (x0, x1) and their conditions in a folder that :func:`advect.training.make_pairs` wrote.

    The numbers are states, not data units: a flow trained on them takes over its teacher's codec afterwards. Files are
    read through the memory map, so that the set may be larger than memory.

    Args:
        folder: The folder with `pairs.json` and the shards.
        verify: Whether the checksum of every file is compared when the folder is opened.
    """

    folder: str
    verify: bool = True

    @cached_property
    def about(self) -> dict[str, Any]:
        """What `pairs.json` says: number, shape, conditions, teacher, solver, steps, guidance, score refusal."""
        return read_index(Path(self.folder), "pairs")

    @cached_property
    def _shards(self) -> list[dict[str, np.ndarray]]:
        size, n = self.about["shard_size"], self.about["n"]
        return [open_shard(Path(self.folder), number, self.verify) for number in range(-(-n // size))]

    @cached_property
    def _source(self) -> Source | None:
        return None if self.about["seed"] is None else build(self.about["source"])

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.about["shape"])

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(build(self.about["conditions"]))

    @property
    def score_refusal(self) -> str:
        """Why a flow trained on these pairs has no score."""
        return self.about["score_refusal"]

    def size(self, split: Split = "train") -> int:
        return self.about["n"] if split == "train" else 0

    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        if split != "train":
            raise InputError(f"split is {split!r}: stored pairs have the split 'train' alone")
        columns = self._gather(index)
        x1 = columns.pop("x1").float()
        x0 = columns.pop("x0", None)
        if x0 is None:
            assert self._source is not None
            x0 = seeded_source(self._source, self.shape, self.about["seed"], index, columns)
        return Batch(x1=x1, x0=x0.float(), cond=columns)

    def _gather(self, index: Tensor) -> dict[str, Tensor]:
        """The rows with these numbers of every column, shard by shard."""
        shards, size = self._shards, self.about["shard_size"]
        where, row = index.div(size, rounding_mode="floor"), index % size
        out: dict[str, Tensor] = {}
        for number in where.unique().tolist():
            hit = where == number
            for name, column in shards[number].items():
                values = torch.from_numpy(column[row[hit].numpy()])
                if name not in out:
                    out[name] = torch.empty((len(index), *values.shape[1:]), dtype=values.dtype)
                out[name][hit] = values
        return out


def read_index(folder: Path, kind: str) -> dict[str, Any]:
    """What `pairs.json` of a folder says.

    Raises:
        InputError: If it is of another format, or the folder holds another kind of samples ("pairs", "segments").
    """
    about = read_json(folder / INDEX)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise InputError(f"{folder}/{INDEX} is not of format {FORMAT}: make the pairs again with this version")
    if (there := about.get("kind", "pairs")) != kind:
        raise InputError(f"{folder} holds {there}, not {kind}: open it as Stored{there.capitalize()}")
    return about


def open_shard(folder: Path, number: int, verify: bool) -> dict[str, np.ndarray]:
    """Open the columns of one shard as memory maps.

    Raises:
        InputError: If the shard or one of its files is missing or damaged; the sentence names the file.
    """
    card = folder / f"shard-{number:05d}.json"
    if not card.exists():
        raise InputError(f"{card} is missing: the pairs are not finished, run make_pairs again to go on with them")
    columns: dict[str, np.ndarray] = {}
    for name, entry in read_json(card)["files"].items():
        path = folder / entry["file"]
        if not path.exists():
            raise InputError(f"{path} is missing: delete {card.name} and run make_pairs again to write it anew")
        if path.stat().st_size != entry["bytes"] or (verify and sha256(path) != entry["sha256"]):
            raise InputError(f"{path} is damaged: delete {card.name} and run make_pairs again to write it anew")
        columns[name] = np.load(path, mmap_mode="r", allow_pickle=False)
    return columns
