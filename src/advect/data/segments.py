"""Stored segments of trajectories: states at chosen nodes of a fine run, kept on disk, read as pairs of neighbours."""

from __future__ import annotations

import itertools
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
from advect.data.pairs import INDEX, open_shard, read_index
from advect.errors import InputError
from advect.parts import build


@dataclass(frozen=True)
class StoredSegments(Data):
    """Segments in a folder that :func:`advect.training.make_segments` wrote: x0 the state at r, x1 the state at t.

    Sample i is segment ``i % K`` of trajectory ``i // K``; a training that shuffles them pools all segments. ``extras``
    bring the two times as "r" and "t". Nodes go by their number on the fine grid, never by comparing times. The numbers
    are states, not data units.

    Args:
        folder: The folder with `pairs.json` and the shards.
        path: Node numbers on the fine grid, rising; each must be stored. None for the grid they were made for, and
            ``(0, F)`` for the whole trajectories, which are the pairs of reflow.
        verify: Whether the checksum of every file is compared when the folder is opened.

    Raises:
        InputError: When opened, if the folder holds no segments, or a node was not stored.
    """

    folder: str
    path: tuple[int, ...] | None = None
    verify: bool = True

    @cached_property
    def about(self) -> dict[str, Any]:
        """What `pairs.json` says: number, shape, conditions, teacher, fine times, stored nodes, score refusal."""
        return read_index(Path(self.folder), "segments")

    @cached_property
    def places(self) -> list[int]:
        """Where the nodes of the path stand among the stored ones."""
        stored = self.about["nodes"]
        path = list(self.about["path"] if self.path is None else self.path)
        missing = [node for node in path if node not in stored]
        if missing or len(path) < 2 or any(b <= a for a, b in itertools.pairwise(path)):
            raise InputError(
                f"path is {path}, and {Path(self.folder) / INDEX} holds the nodes {stored}: name at least two of them, "
                "rising, or make the segments again for this grid"
            )
        return [stored.index(node) for node in path]

    @property
    def times(self) -> list[float]:
        """The times of the path's nodes."""
        stored = self.about["nodes"]
        return [self.about["times"][stored[place]] for place in self.places]

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor(self.times, dtype=torch.float64).float()

    @cached_property
    def _shards(self) -> list[dict[str, np.ndarray]]:
        size, n = self.about["shard_size"], self.about["n"]
        return [open_shard(Path(self.folder), number, self.verify) for number in range(-(-n // size))]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.about["shape"])

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(build(self.about["conditions"]))

    @property
    def score_refusal(self) -> str:
        """Why a flow trained on these segments has no score."""
        return self.about["score_refusal"]

    def size(self, split: Split = "train") -> int:
        return self.about["n"] * (len(self.places) - 1) if split == "train" else 0

    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        if split != "train":
            raise InputError(f"split is {split!r}: stored segments have the split 'train' alone")
        count = len(self.places) - 1
        trajectory, k = index.div(count, rounding_mode="floor"), index % count
        places = torch.tensor(self.places)
        starts, ends = places[k].numpy(), places[k + 1].numpy()
        size = self.about["shard_size"]
        where, row = trajectory.div(size, rounding_mode="floor"), (trajectory % size).numpy()
        x0 = torch.empty(len(index), *self.shape)
        x1, cond = torch.empty_like(x0), {}
        for number in where.unique().tolist():
            columns = self._shards[number]
            hit = where == number
            rows = row[hit.numpy()]
            x0[hit] = torch.from_numpy(columns["states"][rows, starts[hit.numpy()]]).float()
            x1[hit] = torch.from_numpy(columns["states"][rows, ends[hit.numpy()]]).float()
            for name in sorted(columns.keys() - {"states"}):
                values = torch.from_numpy(columns[name][rows])
                if name not in cond:
                    cond[name] = torch.empty((len(index), *values.shape[1:]), dtype=values.dtype)
                cond[name][hit] = values
        return Batch(x1=x1, x0=x0, cond=cond, extras={"r": self._ends[k], "t": self._ends[k + 1]})
