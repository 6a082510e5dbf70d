"""A recipe: every choice of a training in one place, and how it is run in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advect.codecs import Codec
from advect.data.base import Data
from advect.errors import InputError
from advect.files import read_json, write_json
from advect.flow import Flow
from advect.networks import NetSpec, Network
from advect.objectives import Objective
from advect.sampler import Sampler
from advect.training.checkpoints import save_flow
from advect.training.loop import count_shards
from advect.training.monitor import Monitor
from advect.training.prepare import prepare
from advect.training.processes import find_processes
from advect.training.settings import TrainSettings
from advect.training.signature import describe, refuse_changes
from advect.training.stages import Stage, Train, Workspace
from advect.transport import Transport


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and how.

    Args:
        data: Where samples come from.
        network: Makes the network; its `spec` is derived from data and codec.
        objective: What is regressed; None for flow matching.
        transport: Source, coupling, interpolant; None for Gaussian, independent, straight.
        codec: Between data and state; None for none.
        drop: Probability of each set of conditions to be dropped, like ``{"label": 0.1}``.
        sampler: How the Flow is sampled; None for Heun's rule in 25 steps.
        others: Further networks by role: a class, or a folder with a saved Flow.
        start_from: Folder of a Flow or run whose weights are the start; None to begin anew.
        train: Settings of the training.
        stages: What is done, in order.
        seed: Same seed, same numbers.
        name: What the run is called.
    """

    data: Data
    network: Callable[[NetSpec], Network]
    objective: Objective | None = None
    transport: Transport | None = None
    codec: Codec | None = None
    drop: dict[str, float] = field(default_factory=dict)
    sampler: Sampler | None = None
    others: dict[str, Callable[[NetSpec], Network] | str] = field(default_factory=dict)
    start_from: str | None = None
    train: TrainSettings = TrainSettings()
    stages: tuple[Stage, ...] = (Train(),)
    seed: int = 0
    name: str = "run"


def validate(recipe: Recipe) -> None:
    """Refuse what cannot run, before anything is written or trained.

    Opens the data, builds the networks of training stages, and calls each once on two samples.

    Raises:
        InputError: With one sentence that names what does not fit and the mend.
    """
    if not recipe.stages:
        raise InputError("stages is empty: name at least one, like Train")
    if recipe.data.size("train") == 0:
        raise InputError(f"{type(recipe.data).__name__} has no training samples")
    first = recipe.stages[0]
    if isinstance(first, Train):
        job, _ = prepare(**first.arguments(recipe))
        count_shards(job.settings, find_processes(job.settings.device).count)


def _config(recipe: Recipe) -> dict[str, Any]:
    """What a run of this recipe is, as its folder keeps it: one stage says it all by itself."""
    only = recipe.stages[0] if len(recipe.stages) == 1 else None
    if isinstance(only, Train):
        return json.loads(json.dumps(prepare(**only.arguments(recipe))[1]))
    return json.loads(json.dumps({name: describe(value) for name, value in vars(recipe).items()}))


def refuse_other_run(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder that holds the run of another recipe.

    Raises:
        InputError: With every value that differs.
    """
    if (folder / "recipe.json").exists():
        refuse_changes(read_json(folder / "recipe.json"), _config(recipe), folder)


def run_recipe(
    recipe: Recipe,
    folder: str | os.PathLike[str] | None = None,
    *,
    resume: bool = True,
    monitor: Monitor | None = None,
) -> Flow:
    """Run the stages of a recipe, and return the Flow that they leave.

    Args:
        recipe: What to do.
        folder: The run's folder, made once everything is known to fit; None trains in memory. One stage writes right
            into it; several have a folder each inside, and the last Flow goes to ``flow/``.
        resume: Whether what lies in the folder is continued.
        monitor: Who watches.

    Raises:
        InputError: If something does not fit, or the folder holds another run.
    """
    whole = None if folder is None else Path(folder)
    several = len(recipe.stages) > 1
    workspace = Workspace(
        recipe, whole, recipe.data, seed=recipe.seed, resume=resume, monitor=Monitor() if monitor is None else monitor
    )
    if several or not recipe.stages:  # one stage does this by itself before it writes
        validate(recipe)
    main = find_processes(recipe.train.device).main
    if whole is not None and several:
        refuse_other_run(recipe, whole)
        if main:
            write_json(whole / "recipe.json", _config(recipe))
    for number, stage in enumerate(recipe.stages, 1):
        if several:
            workspace.stage = f"{number}-{stage.name}"
            workspace.folder = None if whole is None else whole / workspace.stage
        stage.run(workspace)
    if workspace.flow is None:
        raise InputError("no stage left a Flow: one of them must train")
    if whole is not None and several and main:
        save_flow(workspace.flow, whole / "flow")
    return workspace.flow
