"""Plots as SVG inside the page: losses, quality against calls and seconds, trajectories, point clouds."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from advect.errors import require
from advect.report.page import Html, markup
from advect.report.pictures import picture

COLOURS = ("#2f5fb3", "#c8553d", "#3a8a5d", "#8a5ba8", "#b8860b", "#4a9aa8", "#7d7d7d")
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "advect",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e8ec",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


class Dot(NamedTuple):
    """A measured value with its interval at one x."""

    x: float
    value: float
    low: float
    high: float


def figure(width: float = 6.4, height: float = 3.6, columns: int = 1) -> tuple[Any, list[Any]]:
    """A matplotlib figure without global state, and its axes."""
    matplotlib = require("matplotlib", "report", "plotting")
    figures = require("matplotlib.figure", "report", "plotting")
    with matplotlib.rc_context(_RC):
        drawn = figures.Figure(figsize=(width, height), layout="constrained")
        axes = drawn.subplots(1, columns, squeeze=False)[0]
    return drawn, list(axes)


def svg(drawn: Any) -> str:
    """A figure as SVG markup; the same figure gives the same bytes."""
    matplotlib = require("matplotlib", "report", "plotting")
    out = io.StringIO()
    with matplotlib.rc_context(_RC):
        drawn.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def plot(drawn: Any, caption: str = "", *, raster: bool = False) -> Html:
    """Embed a figure, as SVG, or as PNG where it has thousands of marks."""
    if raster:
        out = io.BytesIO()
        drawn.savefig(out, format="png", dpi=160)
        return picture(out.getvalue(), caption or "plot", caption, width=int(drawn.get_figwidth() * 100))
    source = base64.b64encode(svg(drawn).encode()).decode()
    below = f"<figcaption>{markup(caption)}</figcaption>" if caption else ""
    width = int(drawn.get_figwidth() * 100)
    return Html(
        f'<figure><img width="{width}" alt="{markup(caption or "plot")}" '
        f'src="data:image/svg+xml;base64,{source}">{below}</figure>'
    )


def loss_plot(steps: Sequence[int], loss: Sequence[float]) -> Any:
    """The mean loss over training."""
    drawn, (axis,) = figure(5.2, 3.4)
    axis.plot(steps, loss, color=COLOURS[0], lw=1.4, marker=_mark(steps), ms=3)
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    plain_ticks(axis.yaxis)
    return drawn


def time_bin_plot(steps: Sequence[int], bins: Sequence[Sequence[float | None]]) -> Any:
    """The loss of each bin of t over training; bins are equal parts of [0, 1], None where one was empty."""
    matplotlib = require("matplotlib", "report", "plotting")
    values = np.asarray(bins, dtype=float)
    count = values.shape[1]
    drawn, (axis,) = figure(5.6, 3.4)
    for i, shade in enumerate(matplotlib.colormaps["viridis"](np.linspace(0, 0.92, count))):
        label = f"{i / count:.1f} to {(i + 1) / count:.1f}"
        axis.plot(steps, values[:, i], color=shade, lw=1.2, marker=_mark(steps), ms=3, label=label)
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    plain_ticks(axis.yaxis)
    drawn.legend(title="t", fontsize=8, loc="outside right upper")
    return drawn


def _mark(steps: Sequence[int]) -> str:
    """Few points are marked: one alone would be no line, and bins that are empty now and then leave gaps."""
    return "o" if len(steps) < 20 else ""


def quality_plot(
    series: Mapping[str, Sequence[Dot]],
    ylabel: str,
    xlabel: str = "network calls",
    floor: float | None = None,
    share: bool = False,
) -> Any:
    """A measure with intervals against calls or seconds, one line a model.

    Args:
        series: Values at rising x, by name.
        ylabel: What is measured.
        xlabel: "network calls" or "seconds".
        floor: What real samples score against real ones.
        share: Whether the measure is a share in [0, 1], shown as it is; a distance is shown on a logarithmic scale.
    """
    drawn, (axis,) = figure(5.2, 3.4)
    for i, (name, dots) in enumerate(series.items()):
        x = [d.x for d in dots]
        error = [[max(d.value - d.low, 0.0) for d in dots], [max(d.high - d.value, 0.0) for d in dots]]
        colour = COLOURS[i % len(COLOURS)]
        axis.errorbar(x, [d.value for d in dots], error, color=colour, marker="o", ms=4, lw=1.4, capsize=3, label=name)
    if floor is not None:
        axis.axhline(floor, color="#59636e", lw=1, ls="--", label="real against real")
    axis.set(xlabel=xlabel, ylabel=ylabel, xscale="log")
    _scale(axis, [d for dots in series.values() for d in dots], share)
    calls = sorted({d.x for dots in series.values() for d in dots})
    if xlabel == "network calls":
        axis.set_xticks(calls, [f"{c:g}" for c in calls])
        axis.minorticks_off()
    else:
        plain_ticks(axis.xaxis)
    axis.legend(fontsize=8)
    return drawn


def _scale(axis: Any, dots: Sequence[Dot], share: bool) -> None:
    """Logarithmic; linear around zero as wide as the intervals, where an unbiased distance may come out below zero."""
    if share or not dots:
        return
    if min(d.low for d in dots) > 0:
        axis.set_yscale("log")
        plain_ticks(axis.yaxis)
    else:
        widths = sorted((d.high - d.low) / 2 for d in dots)
        axis.set_yscale("symlog", linthresh=max(widths[len(widths) // 2], 1e-12))
        axis.yaxis.set_major_formatter(require("matplotlib.ticker", "report", "plotting").FormatStrFormatter("%g"))


def plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis, written plainly: at 1, 2, 5, 10, ... where there is room, else at powers of ten."""
    ticker = require("matplotlib.ticker", "report", "plotting")
    low, high = axis.get_view_interval()
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(ticker.NullFormatter())


def trajectory_plot(states: Tensor, data: Tensor, paths: int = 40) -> Any:
    """Paths from source (hollow) to sample (full) over the data (grey), on the data's two principal axes if not 2-D.

    Args:
        states: States (steps + 1, B, *shape).
        data: Encoded data (N, *shape).
        paths: How many paths are drawn.
    """
    flat, real = states[:, :paths].flatten(2).float().cpu(), data.flatten(1).float().cpu()
    if real.shape[1] > 2:
        centre = real.mean(0)
        axes = torch.linalg.svd(real - centre, full_matrices=False).Vh[:2].T
        flat, real = (flat - centre) @ axes, (real - centre) @ axes
    elif real.shape[1] == 1:  # time is the other axis
        times = torch.linspace(0, 1, flat.shape[0])[:, None, None].expand_as(flat)
        flat, real = torch.cat([times, flat], 2), torch.cat([torch.ones_like(real), real], 1)
    drawn, (axis,) = figure(5.2, 4.6)
    axis.scatter(*real.T, s=4, color="#c9d1d9", lw=0, rasterized=True)
    for i in range(flat.shape[1]):
        axis.plot(*flat[:, i].T, color=COLOURS[0], lw=0.8, alpha=0.6)
    axis.scatter(*flat[0].T, s=12, facecolors="none", edgecolors=COLOURS[1], lw=0.8, label="source")
    axis.scatter(*flat[-1].T, s=12, color=COLOURS[2], label="sample")
    axis.legend(fontsize=8)
    return drawn


def cloud_plot(clouds: Mapping[str, Tensor]) -> Any:
    """Point clouds (N, 2) side by side on the same axes."""
    drawn, axes = figure(3.0 * len(clouds), 3.0, len(clouds))
    everything = torch.cat([c.float().cpu() for c in clouds.values()])
    low, high = everything.quantile(0.005, 0).tolist(), everything.quantile(0.995, 0).tolist()
    pad = [(b - a) * 0.15 + 1e-6 for a, b in zip(low, high, strict=True)]
    for axis, (name, cloud) in zip(axes, clouds.items(), strict=True):
        axis.scatter(*cloud.float().cpu().T, s=3, color=COLOURS[0], lw=0)
        axis.set(title=name, xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
    return drawn
