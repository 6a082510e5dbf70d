"""Straightening of a trained flow on a Bellman grid: fit the grid, make segments, train on them (BOSS)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from advect.codecs import Identity
from advect.conditions import Conditions
from advect.data.segments import StoredSegments
from advect.distillation import Distance, SegmentRegression, straight_transport
from advect.errors import InputError
from advect.fitting.bellman import FitBellman
from advect.flow import Flow
from advect.networks import Network
from advect.networks.lora import LoRA
from advect.sampler import Sampler
from advect.saving import load_fitted, save_fitted
from advect.solvers import Euler
from advect.times import BellmanGrid, CustomGrid
from advect.training.api import train
from advect.training.pair_stages import need_flow
from advect.training.processes import find_processes
from advect.training.retrain import copied, recorded
from advect.training.segments import make_segments
from advect.training.settings import TrainSettings
from advect.training.stages import Stage, Workspace, settings_in

if TYPE_CHECKING:
    from advect.training.recipe import Recipe


def straighten(
    flow: Flow,
    segments: StoredSegments,
    *,
    objective: SegmentRegression | None = None,
    rank: int | None = None,
    alpha: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Flow:
    """Train a copy of a flow on segments that it made, so that one Euler step on each lands where its many steps land.

    Args:
        flow: The flow that made the segments; left as it is.
        segments: The segments, with the path whose steps are trained.
        objective: The regression; squared error by default.
        rank: Train low-rank adapters of this rank, merged into the weights in the end; None trains all weights.
        alpha: Scale of the adapters.
        seed: Same seed, same numbers.
        **options: Of :func:`advect.train`: settings, folder, monitor, or single settings.

    Returns:
        A flow that is sampled by Euler on exactly this grid; run otherwise it warns. It has no score, and no guidance
        of its own: the teacher's is in the segments.

    Raises:
        InputError: If rank is given and the network is no part of advect.
    """
    network, times = copied(flow), segments.times
    if rank is not None:
        if not isinstance(network, Network):
            raise InputError(f"rank is {rank}, but the network {type(network).__name__} is none of advect's: train all")
        network = LoRA(network, rank, alpha, seed)
    sampler = Sampler(Euler(), CustomGrid(tuple(times)))
    conditions = Conditions(flow.conditions.items)  # nothing is dropped: the segments were made under conditions
    trained = train(
        network,
        segments,
        objective=SegmentRegression() if objective is None else objective,
        transport=straight_transport(flow.transport, times),
        codec=Identity(),
        conditions=conditions,
        sampler=sampler,
        seed=seed,
        **options,
    )
    worn = trained.network
    record = recorded(trained, flow) | {"segments": trained.record["data"], "rank": rank}
    return Flow(
        worn.merged() if isinstance(worn, LoRA) else worn,
        trained.transport,
        flow.codec,
        conditions,
        sampler,
        flow.shape,
        record=record,
    )


@dataclass(frozen=True)
class Straighten(Stage):
    """Fit a Bellman grid to the flow of the stages before, make segments with it, and train a copy on them (BOSS).

    Args:
        fit: How the grid is found, with its number of steps.
        n: Trajectories; each gives as many segments as the grid has steps.
        several: Further numbers of steps whose nodes are stored too, for later use.
        rank: Train low-rank adapters of this rank; None trains all weights.
        alpha: Scale of the adapters.
        distance: How far the end of a step is from the teacher's; None is the squared error.
        settings: How it is trained; None takes the recipe's.
        steps: The settings with another number of training steps.
        dtype: Type of the stored states.
        batch_size: Trajectories that run together.
        shard_size: Trajectories per file.
    """

    fit: FitBellman = FitBellman()
    n: int = 5000
    several: tuple[int, ...] = ()
    rank: int | None = None
    alpha: float = 1.0
    distance: Distance | None = None
    settings: TrainSettings | None = None
    steps: int | None = None
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int = 512
    shard_size: int = 16384

    @property
    def makes(self) -> str:
        return f"a grid of {self.fit.steps} steps from {self.fit.n} trajectories, segments of {self.n}"

    def settings_in(self, recipe: Recipe) -> TrainSettings:
        return settings_in(recipe, self.settings, self.steps)

    def run(self, workspace: Workspace) -> None:
        flow, folder = need_flow(self, workspace), workspace.folder
        if folder is None:
            raise InputError("segments are files: give the run a folder")
        processes = find_processes(workspace.recipe.train.device)
        grid = self._grid(flow, workspace, folder)
        workspace.monitor.start(self.name, 0, self.n)
        segments = make_segments(
            flow,
            grid,
            self.n,
            folder / "segments",
            several=self.several,
            data=workspace.data,
            seed=workspace.seed,
            dtype=self.dtype,
            batch_size=self.batch_size,
            shard_size=self.shard_size,
            part=(processes.index, processes.count),
            on_done=workspace.monitor.step,
        )
        processes.wait()
        workspace.monitor.finish()
        workspace.flow = straighten(
            flow,
            segments,
            objective=SegmentRegression(self.distance),
            rank=self.rank,
            alpha=self.alpha,
            settings=self.settings_in(workspace.recipe),
            seed=workspace.seed,
            stage=workspace.stage,
            folder=folder / "training",
            resume=workspace.resume,
            monitor=workspace.monitor,
        )

    def _grid(self, flow: Flow, workspace: Workspace, folder: Path) -> BellmanGrid:
        """The grid, found once and kept in the folder of the stage."""
        processes = find_processes(workspace.recipe.train.device)
        if processes.main and not (folder / "fitted" / self.fit.name / "part.json").exists():
            data, classes = None, all(item.discrete for item in flow.conditions.items)  # which are drawn evenly
            if self.fit.needs_data or not classes:
                data = workspace.data.batch("train", torch.arange(min(self.fit.n, workspace.data.size("train"))))
            save_fitted(folder, self.fit.name, self.fit(flow, data, seed=workspace.seed))
        processes.wait()
        grid = load_fitted(folder, self.fit.name)
        assert isinstance(grid, BellmanGrid)
        return grid
