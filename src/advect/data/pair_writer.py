"""The writer of stored pairs: whole shards, each with its checksums, so that a stopped run goes on where it was."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from advect.conditions import Condition
from advect.data.pairs import FORMAT, INDEX
from advect.errors import InputError
from advect.files import read_json, sha256, write_atomically, write_json
from advect.parts import config_of
from advect.sources import Source


class PairWriter:
    """Writes pairs to a folder shard by shard; a shard counts once its card (`shard-00000.json`) is there.

    Args:
        folder: Where; made if absent. A folder of other pairs is refused.
        n: Number of pairs.
        shape: Shape of one state.
        score_refusal: Why a flow trained on these pairs has no score.
        conditions: The conditions that are stored with every pair.
        dtype: Type of the stored states.
        seed: If given, x0 is not stored but drawn again from (seed, number) when it is read.
        source: Who x0 is drawn from; needed with `seed`.
        shard_size: Pairs per shard.
        about: What else is recorded: teacher, solver, steps, guidance (plain values).

    Raises:
        InputError: If the folder holds pairs made otherwise; the sentence names the keys that differ.
    """

    def __init__(
        self,
        folder: str | Path,
        n: int,
        shape: tuple[int, ...],
        score_refusal: str,
        *,
        conditions: tuple[Condition, ...] = (),
        dtype: Literal["float32", "float16"] = "float32",
        seed: int | None = None,
        source: Source | None = None,
        shard_size: int = 65536,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        if n < 1 or shard_size < 1:
            raise InputError(f"n={n}, shard_size={shard_size}: both are at least 1")
        if dtype not in ("float32", "float16"):
            raise InputError(f"dtype is {dtype!r}: pairs are stored as 'float32' or 'float16'")
        if dtype == "float16" and source is not None and not source.needs_x1:
            source.sample((1, *shape), dtype=torch.float16)  # a heavy-tailed source refuses a type it would overflow
        if seed is not None and source is None:
            raise InputError("seed is given without a source: x0 cannot be drawn again, pass source= or seed=None")
        self.folder, self.n, self.shape, self.dtype = Path(folder), n, tuple(shape), dtype
        self.seed, self.shard_size, self.names = seed, shard_size, [c.name for c in conditions]
        index: dict[str, Any] = {
            "format": FORMAT,
            "n": n,
            "shape": list(shape),
            "dtype": dtype,
            "shard_size": shard_size,
            "seed": seed,
            "source": config_of(source),
            "conditions": config_of(conditions),
            "score_refusal": score_refusal,
            **(about or {}),
        }
        path = self.folder / INDEX
        if path.exists():
            there = read_json(path)
            differ = sorted(key for key in index.keys() | there.keys() if index.get(key) != there.get(key))
            if differ:
                raise InputError(
                    f"{self.folder} holds other pairs, which differ in {', '.join(differ)}: choose another folder"
                )
        else:
            write_json(path, index)

    def missing(self) -> list[tuple[int, range]]:
        """The shards that are still to be written, each with the numbers of its pairs."""
        shards = range(-(-self.n // self.shard_size))
        return [
            (s, range(s * self.shard_size, min(self.n, (s + 1) * self.shard_size)))
            for s in shards
            if not (self.folder / f"shard-{s:05d}.json").exists()
        ]

    def write(self, shard: int, x0: Tensor, x1: Tensor, cond: Mapping[str, Tensor] | None = None) -> None:
        """Write one whole shard: x0 and x1 (B, *shape), conditions (B, ...)."""
        self.write_states(shard, {"x1": x1} if self.seed is not None else {"x1": x1, "x0": x0}, cond)

    def write_states(self, shard: int, states: Mapping[str, Tensor], cond: Mapping[str, Tensor] | None = None) -> None:
        """Write one whole shard: columns of states by name, in the type of the set, and conditions, rows first."""
        cond = dict(cond or {})
        if sorted(cond) != sorted(self.names):
            raise InputError(f"the pairs come with conditions {sorted(cond)}, but {sorted(self.names)} are declared")
        kind = torch.float16 if self.dtype == "float16" else torch.float32
        columns = {**{name: value.to(kind) for name, value in states.items()}, **cond}
        files: dict[str, Any] = {}
        for name, value in columns.items():
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{name} of shard {shard} is not finite as {value.dtype}: use float32, or more steps")
            path = self.folder / f"shard-{shard:05d}.{name}.npy"
            buffer = io.BytesIO()
            np.save(buffer, value.detach().cpu().numpy(), allow_pickle=False)
            write_atomically(path, buffer.getvalue())
            files[name] = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
        write_json(self.folder / f"shard-{shard:05d}.json", {"n": len(next(iter(states.values()))), "files": files})
