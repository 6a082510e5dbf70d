"""``python -m advect.demo``: digits from nothing to few steps, and a page that shows it, in minutes on two cores.

Trains a class-conditional flow on real pictures that ship with advect, shortens it in two ways (reflow, and a flow map
that jumps to the end in one call), measures all three at several numbers of network calls, and draws emoji with a flow
that ships with advect.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from advect.batch import Batch
from advect.cli.flows import ASSETS
from advect.cli.progress import Progress
from advect.cli.recipes import as_yaml
from advect.cli.run_report import CALLS, some
from advect.codecs import Identity
from advect.data import Digits, Emoji
from advect.encoders import SmallClassifier
from advect.files import write_json
from advect.flow import Flow
from advect.metrics import ClassAccuracy, EnergyDistance, FrechetDistance
from advect.networks import MLP
from advect.objectives import SplitMeanFlow
from advect.report import (
    Html,
    Page,
    Quality,
    add,
    columns,
    grid,
    heading,
    measure_calls,
    nearest_items,
    note,
    provenance_items,
    quality_items,
    training_items,
    trajectory_items,
)
from advect.saving import versions
from advect.solvers import Heun
from advect.times import TimeGrid
from advect.training import MakePairs, Monitor, Recipe, Reflow, Train, TrainSettings, run_recipe, train
from advect.training.logs import read_log

SAMPLES = 2000
JUMPS = (1, 2, 4)


def digits_recipe(steps: int = 6000) -> Recipe:
    """Train, make pairs, train on the pairs."""
    settings = TrainSettings(
        steps=steps, batch_size=256, lr=1e-3, sample_every=max(1, steps // 6), checkpoint_every=steps, tensorboard=False
    )
    pairs = MakePairs(n=max(64, 2 * steps), solver=Heun(), grid=TimeGrid(20))
    return Recipe(
        data=Digits(),
        network=functools.partial(MLP, hidden=(256, 256, 256, 256), residual=True),  # enough for 64 pixels, and fast
        codec=Identity(),
        drop={"label": 0.1},
        train=settings,
        stages=(Train(), Reflow(pairs=pairs, steps=steps)),
        name="demo",
    )


def run(folder: Path, steps: int = 6000, monitor: Monitor | None = None) -> dict[str, list[Quality]]:
    """Train, reflow, measure, and write ``report.html`` and ``report.json`` into the folder.

    Args:
        folder: The run's folder; a run that lies there is continued.
        steps: Steps of either training.
        monitor: Who watches.

    Returns:
        What was measured, by flow.
    """
    began = time.perf_counter()
    monitor = Monitor() if monitor is None else monitor
    recipe = digits_recipe(steps)
    after = run_recipe(recipe, folder, monitor=monitor)
    before = Flow.from_pretrained(folder / "1-train" / "flow").to(after.device)
    jumps = train(
        recipe.network,
        recipe.data,
        objective=SplitMeanFlow(),
        others={"teacher": before},
        start_from=before,
        settings=recipe.train.but(steps=max(1, 2 * steps // 3), schedule="cosine", sample_every=None),
        folder=folder / "3-flow-map",
        monitor=monitor,
    )
    trained = time.perf_counter() - began

    judge = SmallClassifier("digits")
    metrics = [EnergyDistance(), FrechetDistance(judge), ClassAccuracy(judge)]
    held_out, other = some(recipe.data, "test", SAMPLES), some(recipe.data, "validation", SAMPLES)
    label = held_out.cond["label"][torch.arange(SAMPLES) % len(held_out)]
    series: dict[str, list[Quality]] = {}
    flows = {"before reflow": before, "after reflow": after, "flow map": jumps}
    monitor.start("measuring", 0, len(flows))
    for name, flow in flows.items():
        options: dict[str, Any] = {"other_real": other, "n": SAMPLES, "seed": 1, "cond": {"label": label}}
        series[name] = measure_calls(flow, JUMPS if flow is jumps else CALLS, metrics, held_out, **options)
        monitor.step(len(series))
    monitor.finish()

    about = {
        "seed": recipe.seed,
        "command": f"python -m advect.demo --folder {folder} --steps {steps}",
        "training, reflow and flow map": f"{trained:.0f} s",
        "all": f"{time.perf_counter() - began:.0f} s",
        "threads": torch.get_num_threads(),
    }
    _page(folder, recipe, series, flows, held_out, label, about | versions())
    write_json(folder / "report.json", {name: [q.as_dict() for q in found] for name, found in series.items()})
    return series


def _page(
    folder: Path,
    recipe: Recipe,
    series: dict[str, list[Quality]],
    flows: dict[str, Flow],
    held_out: Batch,
    label: torch.Tensor,
    about: dict[str, Any],
) -> None:
    page = Page(
        "Digits, from noise to few steps",
        "A class-conditional flow on handwritten digits (8x8, 1,259 training pictures), straightened by reflow, and "
        "taught to a flow map that samples in one call. "
        "Everything on this page was trained and measured in this run, but for the emoji.",
    )
    best = series["before reflow"][-1]
    figures = "; ".join(str(estimate) for estimate in best.estimates.values())
    page.section("In short", f"At {best.calls} network calls: {figures}.", grid(best.samples[:60], "samples", 20))
    once: list[Html] = []
    for name, found in series.items():
        seen = found[0]
        figures = "; ".join(str(estimate) for estimate in seen.estimates.values())
        once += [heading(name), grid(seen.samples[:40], figures, 20)]
    page.section("One network call", *once)
    for name, part in (("Training", "1-train"), ("Reflow", "2-reflow/training"), ("Flow map", "3-flow-map")):
        rows, snapshots = read_log(folder / part / "log.jsonl"), sorted((folder / part / "samples").glob("*.png"))
        add(page, name, training_items(rows, snapshots))
    add(page, "Samples and distances by network calls", quality_items(series))
    paths: list[Html] = []
    for name in ("before reflow", "after reflow"):
        flow = flows[name]
        paths += [heading(name), *trajectory_items(flow, held_out.x1, seed=2, label=label[:40])]
    add(page, "Trajectories", paths)
    train = some(recipe.data, "train", recipe.data.size("train")).x1
    add(page, "Is it copying?", nearest_items(best.samples, train))
    page.section("Emoji", *_emoji_items())
    add(page, "How it was made", provenance_items(as_yaml(recipe), about))
    page.write(folder / "report.html")


def _emoji_items() -> list[Html]:
    """Samples of the shipped emoji flow, a row per group; a note where it is not there."""
    folder = ASSETS / "emoji-flow"
    if not (folder / "flow.json").exists():
        return [note("the emoji flow is not in this installation: scripts/train_picture_flows.py trains it")]
    flow = Flow.from_pretrained(folder)
    names = Emoji().class_names or ()
    label = torch.arange(len(names)).repeat_interleave(8)
    x = flow.sample(len(label), seed=0, steps=12, label=label)
    rows = ", ".join(names)
    return [
        note("drawn by a flow that ships with advect, trained once by scripts/train_picture_flows.py on 2,527 emoji"),
        columns(grid(x, f"one row per group: {rows}", 8, zoom=2)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m advect.demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"), help="folder of the run")
    parser.add_argument("--steps", type=int, default=6000, help="steps of either training")
    given = parser.parse_args(arguments)
    run(given.folder, given.steps, Progress())
    print(f"report: {given.folder / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
