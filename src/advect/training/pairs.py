"""Pairs made by a flow: z0 from its source, z1 at the end of its ODE, kept on disk as data for reflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from advect.data.base import Data
from advect.data.pair_writer import PairWriter
from advect.data.pairs import StoredPairs, seeded_source
from advect.distillation import reflow_transport
from advect.errors import InputError
from advect.files import hash_tensors
from advect.flow import Flow
from advect.guidance import Guidance
from advect.parts import config_of
from advect.solvers import GridLike, Solver
from advect.times import Grid


def make_pairs(
    flow: Flow,
    n: int,
    folder: str | Path,
    *,
    solver: Solver | None = None,
    grid: GridLike | None = None,
    steps: int | None = None,
    guidance: tuple[Guidance, ...] | None = None,
    data: Data | None = None,
    cond: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    store_x0: bool = True,
    dtype: Literal["float32", "float16"] = "float32",
    batch_size: int = 512,
    shard_size: int = 65536,
    part: tuple[int, int] = (0, 1),
    on_done: Callable[[int], None] | None = None,
) -> StoredPairs:
    """Run a flow from n starting points and store both ends; a stopped run goes on at its first missing shard.

    Pair i depends on (seed, i) alone. The flow's weights are the EMA weights of its training; their hash, the solver,
    the grid and the guidance (its scale is baked into the coupling) are written beside the pairs. Use enough steps:
    the solver's error becomes part of the coupling.

    Args:
        flow: The teacher.
        n: Number of pairs.
        folder: Where they are kept.
        solver: Another solver than the flow's sampler has.
        grid: Another grid; likewise `steps`, the sampler's grid with another number of steps.
        guidance: Other guidance rules; () for none.
        data: Where the conditions come from, and x0 if its batches bring one (two domains); pair i takes sample i,
            counted round.
        cond: Conditions by name, n values each, instead of `data`.
        seed: Seed of the starting points (and of a stochastic solver).
        store_x0: Store x0; else it is drawn again from (seed, number) when read, at about 10 microseconds a pair.
        dtype: Type of the stored states.
        batch_size: Pairs that are integrated together.
        shard_size: Pairs per file.
        part: (i, k): this is process i of k, which makes every k-th shard; the set is whole when all have returned.
        on_done: Called with the number of pairs done after each batch.

    Returns:
        The pairs as data. A flow that is trained on them inherits `score_refusal`.

    Raises:
        InputError: If the folder holds other pairs, or x0 of the data cannot be drawn again.
    """
    transport = reflow_transport(flow.transport)
    assert transport.score_refusal is not None
    sampler = flow.sampler.but(solver=solver, guidance=guidance, steps=steps)
    nodes = sampler.grid if grid is None else grid
    writer = PairWriter(
        folder,
        n,
        flow.shape,
        transport.score_refusal,
        conditions=flow.conditions.items,
        dtype=dtype,
        seed=None if store_x0 else seed,
        source=flow.transport.source,
        shard_size=shard_size,
        about={
            "teacher": hash_tensors(dict(flow.network.state_dict()))
            if isinstance(flow.network, torch.nn.Module)
            else None,
            "solver": config_of(sampler.solver),
            "grid": config_of(nodes if isinstance(nodes, (Grid, int)) else [float(t) for t in nodes]),
            "guidance": config_of(sampler.guidance),
            "drawn_from": seed,
        },
    )
    states = flow.but(codec=None, sampler=sampler)  # pairs are states
    for shard, numbers in [mine for mine in writer.missing() if mine[0] % part[1] == part[0]]:
        parts: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
        for start in range(numbers.start, numbers.stop, batch_size):
            index = torch.arange(start, min(start + batch_size, numbers.stop))
            x0, given = starts(flow, index, seed, data, cond, store_x0)
            options: dict[str, Any] = dict(given)
            x1 = states.sample(len(index), seed=seed, first=start, batch_size=batch_size, x0=x0, grid=nodes, **options)
            parts.append((x0, x1.cpu(), given))
            if on_done is not None:
                on_done(start + len(index))
        x0s, x1s, conds = zip(*parts, strict=True)
        writer.write(shard, torch.cat(x0s), torch.cat(x1s), {k: torch.cat([c[k] for c in conds]) for k in conds[0]})
    return StoredPairs(str(folder))


def starts(
    flow: Flow,
    index: Tensor,
    seed: int,
    data: Data | None,
    cond: Mapping[str, Tensor] | None,
    store_x0: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """x0 and the conditions of the pairs with these numbers."""
    names = [item.name for item in flow.conditions.items]
    given = {name: value[index] for name, value in (cond or {}).items()}
    x0 = None
    if data is not None:
        batch = data.batch("train", index % data.size("train"))
        given = {name: batch.cond[name] for name in names if name in batch.cond} | given
        if batch.x0 is not None:
            if not store_x0:
                raise InputError("store_x0 is False, but x0 comes from the data and cannot be drawn again: store it")
            with torch.no_grad():
                x0 = flow.codec.encode(batch.x0.to(flow.device)).cpu()
    missing = [name for name in names if name not in given]
    if missing:
        raise InputError(f"the flow is told {', '.join(missing)}, but no values are given: pass data= or cond=")
    if x0 is None:
        x0 = seeded_source(flow.transport.source, flow.shape, seed, index, given)
    return x0, given
