"""Segments made by a flow: one fine Euler run per start, the states at chosen nodes kept on disk as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from advect.data.base import Data
from advect.data.pair_writer import PairWriter
from advect.data.segments import StoredSegments
from advect.distillation import straight_transport
from advect.errors import InputError
from advect.flow import Flow
from advect.guidance import Guidance
from advect.parts import config_of
from advect.sampler import Sampler
from advect.solvers import Euler, start_state
from advect.times import BellmanGrid
from advect.training.pairs import starts


def make_segments(
    flow: Flow,
    grid: BellmanGrid,
    n: int,
    folder: str | Path,
    *,
    several: Sequence[int] = (),
    nodes: Sequence[int] = (),
    guidance: tuple[Guidance, ...] | None = None,
    data: Data | None = None,
    cond: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    dtype: Literal["float32", "float16"] = "float32",
    batch_size: int = 512,
    shard_size: int = 16384,
    part: tuple[int, int] = (0, 1),
    on_done: Callable[[int], None] | None = None,
) -> StoredSegments:
    """Run a flow by Euler over the fine nodes of a grid from n starts, and store the states at the nodes it chose.

    Trajectory i depends on (seed, i) alone; a stopped run goes on at its first missing shard. One pass serves several
    numbers of steps. Each node is stored by its number on the fine grid; the ends are stored too, so that the pairs of
    reflow (``StoredSegments(folder, (0, F))``) come from the same trajectories.

    Args:
        flow: The teacher.
        grid: The fitted grid; its fine nodes are the teacher's steps.
        n: Number of trajectories; each gives as many segments as the grid has steps.
        folder: Where they are kept.
        several: Further numbers of steps whose grids are stored too.
        nodes: Further node numbers that are stored, such as those of even steps.
        guidance: Rules of the teacher; None for those of its sampler.
        data: Where the conditions come from, and x0 if its batches bring one; trajectory i takes sample i, counted
            round.
        cond: Conditions by name, n values each, instead of `data`.
        seed: Seed of the starts.
        dtype: Type of the stored states.
        batch_size: Trajectories that run together.
        shard_size: Trajectories per file.
        part: (i, k): this is process i of k, which makes every k-th shard.
        on_done: Called with the number of trajectories done after each batch.

    Raises:
        InputError: If the grid was fitted on other weights or not at all, or the folder holds other segments.
    """
    rules = flow.sampler.guidance if guidance is None else guidance
    Sampler(Euler(), grid, None, rules).check(flow.kind, flow.weights_hash)
    fine, last = grid.nodes.tolist(), grid.fine
    kept_nodes = sorted({0, last, *grid.path(), *nodes, *(i for k in several for i in grid.with_steps(k).path())})
    if not 0 <= kept_nodes[0] <= kept_nodes[-1] <= last:
        raise InputError(f"nodes is {list(nodes)}: the fine grid has the nodes 0 to {last}")
    transport = straight_transport(flow.transport, grid.times())
    assert transport.score_refusal is not None
    writer = PairWriter(
        folder,
        n,
        flow.shape,
        transport.score_refusal,
        conditions=flow.conditions.items,
        dtype=dtype,
        shard_size=shard_size,
        about={
            "kind": "segments",
            "teacher": flow.weights_hash(),
            "path": grid.path(),
            "nodes": kept_nodes,
            "times": fine,
            "guidance": config_of(rules),
            "drawn_from": seed,
        },
    )
    states = flow.but(codec=None, sampler=None)  # segments are states
    path = flow.transport.interpolant
    for shard, numbers in [mine for mine in writer.missing() if mine[0] % part[1] == part[0]]:
        found: list[Tensor] = []
        told: list[dict[str, Tensor]] = []
        for start in range(numbers.start, numbers.stop, batch_size):
            index = torch.arange(start, min(start + batch_size, numbers.stop))
            x0, given = starts(flow, index, seed, data, cond, True)
            options: dict[str, Any] = dict(given)
            kept = _Nodes(start_state(x0, fine[0], path), kept_nodes)
            states.sample(
                len(index),
                batch_size=batch_size,
                x0=x0,
                solver=Euler(),
                grid=fine,
                guidance=rules,
                project=kept,
                **options,
            )
            found.append(torch.stack(kept.states, 1))
            told.append(given)
            if on_done is not None:
                on_done(start + len(index))
        columns = {name: torch.cat([one[name] for one in told]) for name in told[0]}
        writer.write_states(shard, {"states": torch.cat(found)}, columns)
    return StoredSegments(str(folder))


class _Nodes:
    """Looks at a run after each step, and keeps the states at the nodes of these numbers."""

    def __init__(self, first: Tensor, nodes: list[int]) -> None:
        self.wanted, self.at = set(nodes), 0
        self.states = [first.cpu()]

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.at += 1
        if self.at in self.wanted:
            self.states.append(x.cpu())
        return x
