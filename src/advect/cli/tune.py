"""``advect tune``: the best sampler for a budget of network evaluations, kept as the flow's default."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from advect.adapters import is_pipeline
from advect.batch import Batch
from advect.cli.evaluate import data_of
from advect.cli.flows import flow_folder, make_own, open_flow, open_own
from advect.cli.parsing import instantiate, new_parser, parse
from advect.cli.run_report import conditions_like, metrics_for, some
from advect.data import Augmentation, Data, HorizontalFlip, Split
from advect.errors import InputError, require
from advect.files import write_json
from advect.metrics import Metric
from advect.parts import class_path, config_of
from advect.saving import save_sampler, versions
from advect.training.processes import find_device
from advect.tuning import Candidate, Tuned, tune


@dataclass(frozen=True)
class Budget:
    """What is searched.

    Args:
        nfe: Network evaluations that a sample may cost; a guided pair counts as two.
        data: Held-out data to be near to; None takes those of the training (their validation and test splits).
        metric: What is to be low; None takes the Frechet distance by the package's classifier for built-in pictures,
            else the energy distance.
        n: Samples per measurement.
        seed: The search draws from it, the confirmation from the next one.
        device: "auto" takes a GPU if there is one.
        trust_remote_code: Whether classes outside advect that the flow names may be imported.
    """

    nfe: int
    data: Data | None = None
    metric: Metric | None = None
    n: int = 1000
    seed: int = 0
    device: str = "auto"
    trust_remote_code: bool = False


def run(arguments: Sequence[str]) -> int:
    """Search, print the table, and keep the winner if it is better on fresh seeds."""
    parser = new_parser("tune", "Search solver, grid, source and guidance for a budget of network evaluations.")
    parser.add_argument("flow", help="run folder or folder with a flow.json")
    parser.add_class_arguments(Budget, as_group=False)
    parser.add_argument("--dry-run", action="store_true", help="search and print, and write nothing")
    given = parse(parser, arguments)
    built = instantiate(parser, given)
    budget = Budget(**{name: built[name] for name in Budget.__dataclass_fields__})
    if budget.n < 16:
        raise InputError(f"n is {budget.n}: a sampler is judged by at least 16 samples")
    folder = flow_folder(given.flow)
    if is_pipeline(folder):
        raise InputError(
            f"{folder} is a diffusers pipeline, which keeps no sampler of ours: name solver, grid and guidance to "
            "advect sample, or take a flow"
        )
    flow = open_flow(open_own(given.flow), budget.trust_remote_code).to(find_device(budget.device))
    data = data_of(flow, budget.data, budget.trust_remote_code)
    search, confirm = _two_splits(data)
    found = tune(
        flow,
        budget.nfe,
        _metric(budget, data),
        some(data, search, 4 * budget.n),
        some(data, confirm, 4 * budget.n),
        training=_as_seen(data),
        n=budget.n,
        seed=budget.seed,
        cond=lambda real, n: conditions_like(flow, real, n),
        say=lambda line: print(line, flush=True),
    )
    _show(found)
    folder = folder if given.dry_run else make_own(given.flow)
    if found.better and given.dry_run:
        print(f"{found.winner.name} is better; nothing was changed (dry run)")
    elif found.better:
        save_sampler(folder, found.winner.sampler)
        print(f"{found.winner.name} is the default sampler of {folder} now")
    else:
        print("nothing was better than the default on fresh seeds, so it stays")
    if given.dry_run:
        return 0
    write_json(
        folder / "tuning.json",
        {
            "nfe": budget.nfe,
            "seed": budget.seed,
            "n": budget.n,
            "kept": not found.better,
            "searched": [_as_dict(candidate) for candidate in found.searched],
            "fresh": [_as_dict(found.default), _as_dict(found.winner)],
            "versions": versions(),
        },
    )
    return 0


def _two_splits(data: Data) -> tuple[Split, Split]:
    """Where to search and where to confirm: other data where there are some."""
    order: tuple[Split, ...] = ("validation", "test", "train")
    there: list[Split] = [split for split in order if data.size(split) >= 8]
    if not there:
        raise InputError(f"{type(data).__name__} has fewer than 8 samples in every split: nothing can be measured")
    return there[0], there[1] if len(there) > 1 else there[0]


def _as_seen(data: Data) -> Batch:
    """Training samples, with their mirror images where the training mirrored them."""
    batch = some(data, "train", 20_000)
    inner = data
    while isinstance(inner, Augmentation):
        if isinstance(inner, HorizontalFlip):
            batch = batch.select(torch.arange(len(batch)).repeat(2))
            half = len(batch) // 2
            return batch.replace(x1=torch.cat([batch.x1[:half], batch.x1[half:].flip(-1)]))
        inner = inner.data
    return batch


def _metric(budget: Budget, data: Data) -> Metric:
    if budget.metric is not None:
        return budget.metric
    by_name = {class_path(type(metric)).rpartition(".")[2]: metric for metric in metrics_for(data)}
    return by_name.get("FrechetDistance", by_name["EnergyDistance"])


def _show(found: Tuned) -> None:
    rich = require("rich.table", "cli", "the command line")
    console = require("rich.console", "cli", "the command line").Console()
    name = found.default.estimate.name
    if found.default.estimate.extractor:
        name = f"{name} [{found.default.estimate.extractor}]"
    table = rich.Table(title=f"{len(found.searched)} samplers, {name}")
    for head in ("sampler", "evaluations", name, "interval"):
        table.add_column(head)
    rows = sorted(found.searched, key=lambda c: (math.isnan(c.estimate.value), c.estimate.value))
    fresh = {f"on fresh seeds: {candidate.name}": candidate for candidate in (found.default, found.winner)}
    for label, candidate in [*((c.name, c) for c in rows), *fresh.items()]:
        value = candidate.estimate
        interval = "" if value.low is None else f"{value.low:.4g} to {value.high:.4g}"
        table.add_row(label, str(candidate.evaluations), f"{value.value:.4g}", interval)
    console.print(table)


def _as_dict(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "evaluations": candidate.evaluations,
        "sampler": config_of(candidate.sampler),
        "metric": candidate.estimate.as_dict(),
    }
