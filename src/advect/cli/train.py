"""``advect train``: a recipe, dotted overrides, a run folder; or a dry run that writes nothing."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advect.cli.parsing import new_parser, parse
from advect.cli.progress import Progress
from advect.cli.recipes import add_recipe, as_yaml, build_recipe, recipe_file, shipped_recipes
from advect.cli.run_report import write_run_report
from advect.data import describe
from advect.errors import InputError
from advect.files import write_atomically
from advect.training import Monitor, Recipe, run_recipe, validate
from advect.training.prepare import prepare
from advect.training.recipe import refuse_other_run
from advect.training.stages import Stage, Train


def make_parser() -> Any:
    """Options of `advect train`."""
    parser = new_parser(
        "train",
        "Train or distil from a recipe: advect train RECIPE [--folder runs/x] [--data.path photos/] "
        "[--train.steps 2000] ... Run it again and it resumes. Recipes that ship: "
        f"{', '.join(shipped_recipes())}; or a YAML file.",
    )
    add_recipe(parser)
    parser.add_argument("--folder", default=None, help="folder of the run; runs/NAME if not given")
    parser.add_argument("--fresh", action="store_true", help="refuse a folder that holds a run, instead of resuming it")
    parser.add_argument("--quiet", action="store_true", help="no progress, no report")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Train, and write the report."""
    parser = make_parser()
    arguments = _with_recipe(arguments)
    given = parse(parser, arguments)
    recipe = build_recipe(parser, given)
    folder = Path("runs") / recipe.name if given.folder is None else Path(given.folder)
    resolved = as_yaml(recipe)
    if given.dry_run:
        validate(recipe)
        print(plan(recipe, folder, resolved))
        return 0
    main = int(os.environ.get("RANK", "0")) == 0
    monitor = Progress() if main and not given.quiet else Monitor()
    flow = run_recipe(recipe, folder, resume=not given.fresh, monitor=monitor)
    if main:
        write_atomically(folder / "recipe.yaml", resolved)
        if not given.quiet:
            print(f"flow: {folder / 'flow'}")
            try:
                write_run_report(flow, recipe, folder, resolved)
                print(f"report: {folder / 'report.html'}")
            except InputError as error:  # too few data to measure with: the training is done all the same
                warnings.warn(f"the flow is trained, and there is no report: {error}", stacklevel=1)
            print(f"next: advect sample {folder} -n 64", file=sys.stderr)
    return 0


def _with_recipe(arguments: Sequence[str]) -> list[str]:
    """The recipe stands first, and is read before the options that override it."""
    if not arguments or arguments[0].startswith("-"):
        return list(arguments)
    return ["--recipe", str(recipe_file(arguments[0])), *arguments[1:]]


def plan(recipe: Recipe, folder: Path, resolved: str) -> str:
    """What a dry run prints: the recipe, the data, the networks, the work."""
    about = describe(recipe.data)
    lines = ["resolved recipe:", *(f"  {line}" for line in resolved.splitlines()), "", "data:"]
    classes, (low, high) = about["classes"], about["range"]
    splits = ", ".join(f"{n} {split}" for split, n in about["splits"].items())
    lines += [
        f"  {about['name']}: {splits}, each {about['shape']}",
        f"  values from {low:.3g} to {high:.3g}, mean {about['mean']:.3g}, standard deviation {about['std']:.3g}",
        f"  conditions: {', '.join(f'{name} ({width})' for name, width in about['conditions'].items()) or 'none'}",
    ]
    if classes:
        lines.append(f"  classes: {', '.join(classes[:12])}{' ...' if len(classes) > 12 else ''}")
    first = recipe.stages[0]
    if isinstance(first, Train):
        job, _ = prepare(**first.arguments(recipe))
        lines += ["", "networks:"]
        for role, net in job.networks.items():
            total = sum(p.numel() for p in net.parameters())
            lines.append(
                f"  {role}: {type(net).__name__}, {total:,} parameters, {total * 4 / 2**20:.1f} MiB in float32"
            )
        lines.append(f"  state: {tuple(job.codec.latent_shape(recipe.data.shape))}")
    lines += [
        "",
        "work:",
        *(f"  {number}-{stage.name}: {_work(stage, recipe)}" for number, stage in enumerate(recipe.stages, 1)),
        f"  folder: {folder}{_old_run(recipe, folder)}",
        "nothing was written",
    ]
    return "\n".join(lines)


def _old_run(recipe: Recipe, folder: Path) -> str:
    """What would become of a run that lies in the folder already."""
    if not (folder / "recipe.json").exists():
        return ""
    try:
        refuse_other_run(recipe, folder)
    except InputError as error:
        return f" (would be refused: {error})"
    return " (holds a run: it would be continued)"


def _work(stage: Stage, recipe: Recipe) -> str:
    """What a stage makes, then for how long it trains."""
    settings, said = stage.settings_in(recipe), [stage.makes]
    if settings is not None:
        passes = settings.steps * settings.batch_size / max(recipe.data.size("train"), 1)
        own = "" if stage.makes or stage is not recipe.stages[0] else f" ({passes:.1f} passes over the data)"
        said.append(f"{settings.steps} steps of {settings.batch_size} samples{own}")
    return ", then ".join(filter(None, said)) or type(stage).__name__
