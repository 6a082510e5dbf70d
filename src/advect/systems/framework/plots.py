"""Draws the curves, scatters and pictures of an experiment as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from advect.errors import require
from advect.report.figures import plain_ticks
from advect.systems.framework.outcome import Curves, Outcome, Pictures, Scatter


def draw(outcomes: list[Outcome], folder: Path, scale: str) -> list[str]:
    """Write one PNG for each plot; lines are means over the seeds with their range.

    Returns:
        The file names, in the order of the outcome.
    """
    require("matplotlib", "report", "plotting").use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for i, curves in enumerate(outcomes[0].curves):
        files.append(_save(_curves([o.curves[i] for o in outcomes]), folder / f"{scale}-{curves.name}.png"))
    for scatter in outcomes[0].scatters:
        files.append(_save(_scatter(scatter), folder / f"{scale}-{scatter.name}.png"))
    for pictures in outcomes[0].pictures:
        files.append(_save(_pictures(pictures), folder / f"{scale}-{pictures.name}.png"))
    return files


def _save(figure: Any, path: Path) -> str:
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    require("matplotlib.pyplot", "report", "plotting").close(figure)
    return path.name


def _curves(seeds: list[Curves]) -> Any:
    plt = require("matplotlib.pyplot", "report", "plotting")
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for number, (label, (x, _)) in enumerate(seeds[0].lines.items()):
        y = np.array([seed.lines[label][1] for seed in seeds], dtype=float)
        style = ("-", "--", ":", "-.")[number // 10 % 4]
        axes.plot(x, y.mean(0), style, marker="o", markersize=3, linewidth=1.4, label=label, color=f"C{number % 10}")
        if len(seeds) > 1:
            axes.fill_between(x, y.min(0), y.max(0), alpha=0.15, color=f"C{number % 10}", linewidth=0)
    axes.set(title=seeds[0].title, xlabel=seeds[0].x, ylabel=seeds[0].y)
    if "x" in seeds[0].log:
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
    if "y" in seeds[0].log:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2 if len(seeds[0].lines) > 6 else 1)
    return figure


def _scatter(scatter: Scatter) -> Any:
    plt = require("matplotlib.pyplot", "report", "plotting")
    count = len(scatter.points)
    figure, all_axes = plt.subplots(1, count, figsize=(2.8 * count, 3), squeeze=False, sharex=True, sharey=True)
    for axes, (label, points) in zip(all_axes[0], scatter.points.items(), strict=True):
        xy = np.array(points)
        axes.scatter(xy[:, 0], xy[:, 1], s=1.5, alpha=0.5, linewidths=0)
        axes.set(title=label, aspect="equal", xticks=[], yticks=[])
        axes.title.set_fontsize(8)
    figure.suptitle(scatter.title)
    return figure


def _pictures(pictures: Pictures) -> Any:
    plt = require("matplotlib.pyplot", "report", "plotting")
    rows = len(pictures.images)
    count = max(len(images) for images in pictures.images.values())
    height = 0.8 * rows + 0.35
    figure, all_axes = plt.subplots(rows, 1, figsize=(0.55 * count, height), squeeze=False)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1 - 0.5 / height, hspace=0.3)  # the title close to the rows
    for axes, (label, images) in zip(all_axes[:, 0], pictures.images.items(), strict=True):
        strip = np.concatenate([np.pad(np.array(i, np.uint8), _frame(i), constant_values=255) for i in images], axis=1)
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(label, fontsize=8, loc="left", pad=2)
        axes.axis("off")
    figure.suptitle(pictures.title, fontsize=9, y=1, va="top")
    return figure


def _frame(image: Any) -> list[tuple[int, int]]:
    return [(0, 0), (0, 1)] + [(0, 0)] * (np.ndim(image) - 2)
