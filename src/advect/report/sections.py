"""Sections that reports share: training, samples per number of calls, trajectories, nearest pictures, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advect.fields import calls_text
from advect.flow import Flow
from advect.metrics import Estimate, nearest
from advect.report.figures import Dot, cloud_plot, loss_plot, plot, quality_plot, time_bin_plot, trajectory_plot
from advect.report.measure import Quality
from advect.report.page import Html, Page, code, columns, details, facts, heading, note, table
from advect.report.pictures import beside, film, grid, picture


def is_picture(x: Tensor) -> bool:
    """Whether samples (N, *shape) can be shown as images."""
    return x.ndim == 4 and x.shape[1] in (1, 3)


def show(x: Tensor, caption: str, columns: int | None = None) -> Html:
    """Samples as they are best seen: a grid of images, a cloud of points, or the first rows of numbers."""
    if is_picture(x):
        return grid(x, caption, columns)
    if x.ndim == 2 and x.shape[1] == 2:
        return plot(cloud_plot({caption: x}))
    rows = [[float(value) for value in row[:8]] for row in x.flatten(1)[:5]]
    return Html(note(f"{caption}: the first of {len(x)} samples of shape {tuple(x.shape[1:])}") + table(("",), rows))


def training_items(rows: Sequence[Mapping[str, Any]], snapshots: Sequence[Path] = ()) -> list[Html]:
    """Loss, loss per bin of t, and the sample grids that were drawn while training.

    Args:
        rows: Rows of the log, with "step", "loss" and "loss_per_bin".
        snapshots: PNG files of sample grids, in order of steps.
    """
    rows = [row for row in rows if "loss" in row]
    if not rows:
        return [note("no log was kept")]
    steps = [row["step"] for row in rows]
    plots = [plot(loss_plot(steps, [row["loss"] for row in rows]), "mean loss between two rows of the log")]
    bins = [row["loss_per_bin"] for row in rows if row.get("loss_per_bin")]
    if len(bins) == len(rows):
        text = "the same per bin of t; it cannot fall below the spread that is left given x_t, so a flat one is normal"
        plots.append(plot(time_bin_plot(steps, bins), text))
    items = [columns(*plots)]
    if snapshots:
        chosen = [snapshots[round(i * (len(snapshots) - 1) / 5)] for i in range(6)] if len(snapshots) > 6 else snapshots
        shown = [_snapshot(path) for path in chosen]
        items += [heading("Samples while training"), columns(*shown)]
    return items


def quality_items(series: Mapping[str, Sequence[Quality]], shown: int = 40) -> list[Html]:
    """Samples and figures per number of network calls, for one or several flows.

    Args:
        series: By name of the flow, measured at rising numbers of calls.
        shown: Samples per grid.
    """
    items: list[Html] = []
    for name, found in series.items():
        items.append(heading(name))
        if all(q.samples.ndim == 2 and q.samples.shape[1] == 2 for q in found):  # on the same axes, to be compared
            items.append(plot(cloud_plot({_calls(q): q.samples for q in found}), raster=True))
        else:
            items.append(columns(*(show(q.samples[:shown], _calls(q), 10 if shown > 30 else 5) for q in found)))
    names = list(dict.fromkeys(metric for found in series.values() for q in found for metric in q.estimates))
    for metric in names:
        first = next(q.estimates[metric] for found in series.values() for q in found if metric in q.estimates)
        plots = []
        for xlabel in ("network calls", "seconds"):
            dots = {name: [_dot(q, metric, xlabel) for q in found] for name, found in series.items()}
            plots.append(plot(quality_plot(dots, metric, xlabel, first.floor, share=first.better == "higher")))
        items += [heading(metric), columns(*plots)]
    items.append(quality_table(series))
    n = {len(q.samples) for found in series.values() for q in found}
    items.append(
        note(f"bars and brackets: 95 % bootstrap intervals; N = {', '.join(map(str, sorted(n)))} samples each")
    )
    return items


def quality_table(series: Mapping[str, Sequence[Quality]]) -> Html:
    """All figures with interval, floor and N."""
    rows = [
        [
            name,
            calls_text(q.roles) if len(q.roles) > 1 else q.calls,
            float(f"{q.seconds:.2g}"),
            estimate.name,
            _interval(estimate),
            _floor(estimate),
            estimate.n,
        ]
        for name, found in series.items()
        for q in found
        for estimate in q.estimates.values()
    ]
    return table(("flow", "calls", "seconds", "figure", "value (interval)", "real against real", "N"), rows)


def trajectory_items(
    flow: Flow, data: Tensor, *, n: int = 40, steps: int = 32, seed: int = 0, **cond: Any
) -> list[Html]:
    """Paths from source to sample, and (for images) the states on the way.

    Args:
        flow: Whose paths.
        data: Real samples in data units, for the background.
        n: Paths.
        steps: Steps of the flow's own solver.
        seed: Seed of the starts.
        cond: Conditions, n each or one for all.
    """
    many = {} if flow.kind == "kernel" else {"steps": steps}  # a chain may have been trained at a few times alone
    run = flow.sample(n, seed=seed, record=True, **many, **cond)
    with torch.no_grad():
        encoded = flow.codec.encode(data[:1000].to(flow.device)).cpu()
    plane = "" if data.flatten(1).shape[1] == 2 else ", on the two principal axes of the data"
    items = [plot(trajectory_plot(run.states.cpu(), encoded, n), f"{n} paths from source to data{plane}")]
    if is_picture(data):
        with torch.no_grad():
            frames = film(run.states, flow.codec.decode, frames=9, samples=6).cpu()
        items.append(grid(frames, "states on the way: noise at the left, sample at the right", 9))
    return [columns(*items)]


def nearest_items(samples: Tensor, training: Tensor, shown: int = 20) -> list[Html]:
    """Samples beside the nearest training sample (in pixels): copies would be seen at once."""
    if not is_picture(samples):
        return []
    distance, index = nearest(samples[:shown], training)
    pairs = beside([samples[:shown], training[index[:, 0]]])
    text = (
        "left of each pair: a sample; right: the training picture nearest to it in pixels "
        f"(mean distance {float(distance.mean()):.3g})"
    )
    return [grid(pairs, text, 10)]


def provenance_items(recipe: str, about: Mapping[str, Any]) -> list[Html]:
    """The resolved recipe, versions, seed, machine."""
    return [facts(about), details("resolved recipe", code(recipe))]


def add(page: Page, title: str, items: Sequence[Html | str]) -> None:
    """Add a section if there is something in it."""
    if items:
        page.section(title, *items)


def _snapshot(path: Path) -> Html:
    data = path.read_bytes()
    width = int.from_bytes(data[16:20], "big")  # where a PNG keeps it
    return picture(data, path.stem, path.stem.replace("-", " "), width=width * max(1, round(240 / width)), pixels=True)


def _calls(q: Quality) -> str:
    return calls_text(q.roles or {"model": q.calls})


def _dot(q: Quality, metric: str, xlabel: str) -> Dot:
    e = q.estimates[metric]
    low, high = (e.value if edge is None else edge for edge in (e.low, e.high))
    return Dot(q.calls if xlabel == "network calls" else q.seconds, e.value, low, high)


def _interval(e: Estimate) -> str:
    edges = "" if e.low is None or e.high is None else f" ({e.low:.4g} to {e.high:.4g})"
    return f"{e.value:.4g}{edges}{' ' + e.unit if e.unit else ''}"


def _floor(e: Estimate) -> str:
    return "" if e.floor is None else f"{e.floor:.4g} (N = {e.floor_n})"
