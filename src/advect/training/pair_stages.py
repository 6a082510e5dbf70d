"""Stages of a recipe that make pairs, and that train on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from advect.codecs import Identity
from advect.data.pairs import StoredPairs
from advect.errors import InputError
from advect.flow import Flow
from advect.guidance import Guidance
from advect.objectives import Objective
from advect.solvers import Solver
from advect.times import Grid
from advect.training.pairs import make_pairs
from advect.training.processes import find_processes
from advect.training.retrain import reflow
from advect.training.settings import TrainSettings
from advect.training.stages import Stage, Workspace, settings_in

if TYPE_CHECKING:
    from advect.training.recipe import Recipe


@dataclass(frozen=True)
class MakePairs(Stage):
    """Make pairs with the flow of the stages before and leave them as the data of the next stage.

    Args:
        n: Number of pairs.
        solver: How the flow is solved; None takes its sampler's.
        grid: At which times; None takes its sampler's.
        guidance: Rules that are baked into the pairs; None takes the sampler's, () none.
        store_x0: Store x0, or draw it again from its seed when it is read.
        dtype: Type of the stored states.
        batch_size: Pairs that are integrated together.
        shard_size: Pairs per file.
    """

    n: int = 10_000
    solver: Solver | None = None
    grid: Grid | None = None
    guidance: tuple[Guidance, ...] | None = None
    store_x0: bool = True
    dtype: Literal["float32", "float16"] = "float32"
    batch_size: int = 512
    shard_size: int = 65536

    @property
    def makes(self) -> str:
        return f"{self.n} pairs"

    def run(self, workspace: Workspace) -> None:
        if not isinstance(workspace.recipe.codec, (Identity, type(None))):
            raise InputError(
                f"codec is {type(workspace.recipe.codec).__name__}, which the next stage would apply to pairs that "
                "are states already: use the stage Reflow, which makes pairs and trains on them"
            )
        workspace.data = self.make(workspace)

    def make(self, workspace: Workspace) -> StoredPairs:
        """The pairs, in the folder of the stage."""
        flow, folder = need_flow(self, workspace), workspace.folder
        if folder is None:
            raise InputError("pairs are files: give the run a folder")
        processes = find_processes(workspace.recipe.train.device)
        workspace.monitor.start(self.name, 0, self.n)
        pairs = make_pairs(
            flow,
            self.n,
            folder / "pairs",
            solver=self.solver,
            grid=self.grid,
            guidance=self.guidance,
            data=workspace.data,
            seed=workspace.seed,
            store_x0=self.store_x0,
            dtype=self.dtype,
            batch_size=self.batch_size,
            shard_size=self.shard_size,
            part=(processes.index, processes.count),
            on_done=workspace.monitor.step,
        )
        processes.wait()
        workspace.monitor.finish()
        return pairs


@dataclass(frozen=True)
class Reflow(Stage):
    """Make pairs with the flow of the stages before, and train a copy of it on them (rectified flow).

    Args:
        pairs: How the pairs are made.
        objective: What is regressed on them; None is flow matching (reflow), ``KStep(k)`` distils to k steps.
        settings: How it is trained; None takes the recipe's.
        steps: The settings with another number of steps.
    """

    pairs: MakePairs = MakePairs()
    objective: Objective | None = None
    settings: TrainSettings | None = None
    steps: int | None = None

    @property
    def makes(self) -> str:
        return self.pairs.makes

    def settings_in(self, recipe: Recipe) -> TrainSettings:
        return settings_in(recipe, self.settings, self.steps)

    def run(self, workspace: Workspace) -> None:
        flow, folder = need_flow(self, workspace), workspace.folder
        workspace.flow = reflow(
            flow,
            self.pairs.make(workspace),
            objective=self.objective,
            settings=self.settings_in(workspace.recipe),
            seed=workspace.seed,
            stage=workspace.stage,
            folder=None if folder is None else Path(folder) / "training",
            resume=workspace.resume,
            monitor=workspace.monitor,
        )


def need_flow(stage: Stage, workspace: Workspace) -> Flow:
    """The flow of the stages before."""
    if workspace.flow is None:
        raise InputError(f"the stage {type(stage).__name__} takes the Flow of a stage before it: put Train first")
    return workspace.flow
