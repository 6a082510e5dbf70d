"""The flow for emoji that ships with advect: its grid, nothing trained."""

from __future__ import annotations

import torch
from torch import Tensor

from advect import sources
from advect.data import Emoji
from advect.encoders import SmallClassifier
from advect.fitting import FitBellman
from advect.randomness import generator
from advect.solvers import Euler
from advect.systems.boss.ends import ALONE, CHOSEN, EVEN, OWN, distance, grids
from advect.systems.framework import (
    Figures,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    all_labels,
    compared,
    shipped_flow,
    with_nearest,
)

CLAIMS = (
    compared(
        "grid, emoji, 6 steps",
        f"{OWN}, the flow that ships, 3x32x32, 32 starts over all classes, 6 Euler steps",
        ALONE,
        EVEN,
        low=1.0,
    ),
    compared(
        "grid, emoji, 6 steps: features",
        "mean squared distance of features [emoji classifier] to those of the flow's own end, 32 starts, 6 Euler steps",
        ALONE,
        EVEN,
        low=1.0,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Distance to the flow's own end, in pixels and in features."""
    setting.say("emoji: the grid of the flow that ships")
    flow, n = shipped_flow("emoji"), setting.pick(32, 4)
    grid = FitBellman(6, n=setting.pick(24, 2), batch_size=24)(flow, seed=setting.seed)
    x0 = sources.Gaussian().sample((n, *flow.shape), generator=generator(setting.seed, "starts"))
    label = torch.arange(n) % int(all_labels(Emoji()).max() + 1)
    end = flow.sample(n, x0=x0, label=label, solver=Euler(), grid=100)
    steps, features = CHOSEN if not setting.quick else (6,), SmallClassifier("emoji")
    samples = {
        name: [flow.sample(n, x0=x0, label=label, solver=Euler(), grid=one.with_steps(k)) for k in steps]
        for name, one in grids(grid).items()
    }

    @torch.no_grad()
    def apart(x: Tensor) -> float:
        return float((features(x) - features(end)).square().sum(1).mean())

    near = Figures.of(lambda x: distance(x, end), steps, samples)
    alike = Figures.of(apart, steps, samples)
    out.values["grid, emoji, 6 steps"] = near.against("Bellman", "even", 6)
    out.values["grid, emoji, 6 steps: features"] = alike.against("Bellman", "even", 6)
    columns = ("grid", *(f"{what}, K={k}" for what in ("own end", "features") for k in steps))
    rows = {name: near.arms[name] + alike.arms[name] for name in samples}
    title = "Emoji, no training: distances to the own end of 100 steps"
    out.tables.append(Table.of("emoji", title, columns, rows))
    shown = {name: each[steps.index(6)] for name, each in samples.items()}
    strips = {"100 steps": end, "6 even steps": shown["even"], "EDM": shown["EDM"]}
    nearest = with_nearest(shown["Bellman"], all_images(Emoji()), "6 Bellman steps")
    out.pictures.append(Pictures.of("emoji", "The same noise and class", {**strips, **nearest}))
    out.notes.append(f"emoji: nodes of the grid of 6 steps {grid.path()} (first seed)")
