"""A recipe is a list of stages; each takes up what the one before has left in the workspace."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from advect.data.base import Data
from advect.flow import Flow
from advect.networks import NetSpec, Network
from advect.objectives import Objective
from advect.parts import Part
from advect.training.monitor import Monitor
from advect.training.prepare import prepare
from advect.training.running import run_job
from advect.training.settings import TrainSettings
from advect.transport import Transport

if TYPE_CHECKING:
    from advect.training.recipe import Recipe


@dataclass
class Workspace:
    """What stages hand on.

    Attributes:
        recipe: The whole recipe.
        folder: Folder of this stage, or None in memory; made by who writes into it.
        data: Data of the next stage; a stage that makes data replaces them.
        flow: What was trained so far, or None.
        seed: Seed of the recipe.
        stage: Name of this stage, unlike that of any other: part of its seeds.
        resume: Whether work that lies in the folder is continued.
        monitor: Who watches.
    """

    recipe: Recipe
    folder: Path | None
    data: Data
    flow: Flow | None = None
    seed: int = 0
    stage: str = "train"
    resume: bool = True
    monitor: Monitor = field(default_factory=Monitor)


class Stage(Part, ABC):
    """One piece of the work of a recipe. Run again in the same folder, it goes on where it was stopped."""

    @property
    def name(self) -> str:
        """What its folder is called."""
        return type(self).__name__.lower()

    @property
    def makes(self) -> str:
        """What it makes before it trains, in words with their numbers; empty if nothing."""
        return ""

    def settings_in(self, recipe: Recipe) -> TrainSettings | None:
        """How it trains in a recipe; None if it trains nothing."""
        return None

    @abstractmethod
    def run(self, workspace: Workspace) -> None:
        """Do the work, and leave the results in the workspace."""


def settings_in(recipe: Recipe, settings: TrainSettings | None, steps: int | None) -> TrainSettings:
    """A stage's own settings, or else those of its recipe; with its own number of steps, if it has one."""
    chosen = recipe.train if settings is None else settings
    return chosen if steps is None else replace(chosen, steps=steps)


@dataclass(frozen=True)
class Train(Stage):
    """Train the network of the recipe; what is not given here is the recipe's.

    Args:
        objective: What is regressed.
        transport: Source, coupling, interpolant.
        settings: How it runs.
        steps: The settings with another number of steps.
        network: The network, where it is not the recipe's.
        others: Further networks by role: a class, a folder with a saved Flow, or "previous", the Flow of the stages
            before. The objective says which of them it trains.
        weights: Start from the weights of the stages before, if there are any, or anew.
        drop: Probability of each set of names to be dropped.
    """

    objective: Objective | None = None
    transport: Transport | None = None
    settings: TrainSettings | None = None
    steps: int | None = None
    network: Callable[[NetSpec], Network] | None = None
    others: dict[str, Callable[[NetSpec], Network] | str] | None = None
    weights: Literal["previous", "new"] = "previous"
    drop: dict[str, float] | None = None

    def settings_in(self, recipe: Recipe) -> TrainSettings:
        return settings_in(recipe, self.settings, self.steps)

    def arguments(self, recipe: Recipe, before: Flow | None = None) -> dict[str, Any]:
        """What :func:`advect.train` is called with.

        Args:
            recipe: Gives what is not given here.
            before: The Flow of the stages before.
        """
        others = recipe.others if self.others is None else self.others
        return {
            "network": recipe.network if self.network is None else self.network,
            "data": recipe.data,
            "objective": recipe.objective if self.objective is None else self.objective,
            "transport": recipe.transport if self.transport is None else self.transport,
            "codec": recipe.codec,
            "drop": recipe.drop if self.drop is None else self.drop,
            "sampler": recipe.sampler,
            "others": {role: before if value == "previous" else value for role, value in others.items()},
            "settings": self.settings_in(recipe),
            "seed": recipe.seed,
            "start_from": before if self.weights == "previous" and before is not None else recipe.start_from,
        }

    def run(self, workspace: Workspace) -> None:
        arguments = self.arguments(workspace.recipe, workspace.flow) | {"data": workspace.data, "seed": workspace.seed}
        job, config = prepare(**arguments, stage=workspace.stage, monitor=workspace.monitor)
        workspace.flow = run_job(job, config, workspace.folder, resume=workspace.resume)
