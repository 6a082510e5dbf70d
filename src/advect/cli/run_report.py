"""The page that a training leaves in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from advect.batch import Batch
from advect.cli.flows import conditions_for
from advect.data import Augmentation, Data, Split
from advect.encoders import SmallClassifier
from advect.errors import InputError
from advect.flow import Flow
from advect.metrics import ClassAccuracy, EnergyDistance, FrechetDistance, Metric
from advect.report import (
    Page,
    add,
    measure_calls,
    nearest_items,
    provenance_items,
    quality_items,
    training_items,
    trajectory_items,
)
from advect.saving import versions
from advect.training import Recipe
from advect.training.logs import read_log

CALLS = (1, 2, 4, 8, 32)


def write_run_report(
    flow: Flow, recipe: Recipe, folder: Path, resolved: str, calls: Sequence[int] = CALLS, n: int = 500
) -> None:
    """Write ``report.html``: training, samples and distances per number of calls, trajectories, nearest pictures."""
    data = recipe.data
    real, other = held_out(data, 2 * n)
    cond = conditions_like(flow, real, n)
    found = measure_calls(flow, calls, metrics_for(data), real, other_real=other, n=n, seed=recipe.seed, cond=cond)
    train = some(data, "train", 4000).x1
    page = Page(f"Run {folder.resolve().name}", f"{type(flow.network).__name__} on {type(data).__name__}, in {folder}.")
    for log in sorted(folder.rglob("log.jsonl")):  # every stage that trains has one, and counts its own steps
        stage = log.parent.relative_to(folder).parts
        title = f"Training: {stage[0]}" if stage else "Training"
        add(page, title, training_items(read_log(log), sorted(log.parent.glob("samples/step-*.png"))))
    add(page, "Samples and distances by network calls", quality_items({folder.resolve().name: found}))
    few = {name: value[:40] for name, value in cond.items()}
    add(page, "Trajectories", trajectory_items(flow, real.x1, seed=recipe.seed, **few))
    add(page, "Is it copying?", nearest_items(found[-1].samples, train))
    about: dict[str, Any] = {"seed": recipe.seed, "score": flow.score_refusal or "given by the velocity"}
    add(page, "How it was made", provenance_items(resolved, about | versions()))
    page.write(folder / "report.html")


def some(data: Data, split: Split, most: int) -> Batch:
    """At most `most` samples of a split, spread evenly over it."""
    size = data.size(split)
    return data.batch(split, torch.arange(0, size, max(1, -(-size // most)))[:most])


def held_out(data: Data, most: int) -> tuple[Batch, Batch | None]:
    """Test samples (validation where there are none, then training) and further real ones for the floor."""
    order: tuple[Split, ...] = ("test", "validation", "train")
    present: list[Split] = [split for split in order if data.size(split) >= 8]
    if not present:
        sizes = ", ".join(f"{data.size(split)} of {split}" for split in order)
        raise InputError(f"data has {sizes}, and a figure is measured on at least 8 of one kind: give more data")
    return some(data, present[0], most), some(data, present[1], most) if len(present) > 1 else None


def conditions_like(flow: Flow, real: Batch, n: int) -> dict[str, Any]:
    """Conditions for n samples in the proportions of real data; all others as where none are given."""
    index = torch.arange(n) % len(real)
    names = [item.name for item in flow.conditions.items]
    taken = {name: real.cond[name][index] for name in names if name in real.cond}
    return conditions_for(flow, {}, 0, n) | taken


def metrics_for(data: Data) -> list[Metric]:
    """Energy distance always; where the package has a classifier of the data, distance and accuracy by it too."""
    out: list[Metric] = [EnergyDistance()]
    while isinstance(data, Augmentation):
        data = data.data
    name = type(data).__name__.lower()
    if name in ("digits", "emoji", "clothing"):
        judge = SmallClassifier(name)
        out += [FrechetDistance(judge), ClassAccuracy(judge)]
    return out
