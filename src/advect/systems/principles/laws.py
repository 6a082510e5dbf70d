"""Samplers with noise have no exact ends, but their law has: mean and covariance of the reference mixture."""

from __future__ import annotations

import torch

from advect import Run, interpolants, oracles, sources
from advect.randomness import generator
from advect.solvers import Context
from advect.systems.framework import Outcome, Setting, Table
from advect.systems.principles.rules import STOCHASTIC
from advect.times import TimeGrid

COUNTS = (10, 20, 40, 80)


def measure(setting: Setting, out: Outcome) -> None:
    """The largest error of mean and covariance by steps; nothing is claimed."""
    setting.say("samplers with noise on the reference mixture")
    mixture, path = oracles.reference_mixture(), interpolants.Linear()
    context, n = Context(path), setting.pick(100_000, 10_000)
    x1, _ = mixture.draw(setting.pick(4_000_000, 400_000), generator(0, "truth"))
    mean, covariance = x1.mean(0), torch.cov(x1.T)
    rows: dict[str, list[float]] = {}
    for name, solver in STOCHASTIC.items():
        errors, calls = [], 0.0
        for steps in COUNTS:
            run = Run(generator(setting.seed, "noise", name, steps))
            x0 = sources.Gaussian().sample((n, 2), generator=run.generator, dtype=torch.float64)
            x = solver(mixture.velocity(path), x0, TimeGrid(steps), run, context=context)
            off = torch.cat([(x.mean(0) - mean).abs(), (torch.cov(x.T) - covariance).abs().flatten()])
            errors.append(float(off.max()))
            calls = run.nfe / steps
        rows[name] = [calls, *errors]
    title = f"Largest error of mean and covariance at t=1 after n steps from t=0, {n} paths (chance alone: about .006)"
    heads = ("solver", "calls per step", *(f"n={k}" for k in COUNTS))
    out.tables.append(Table.of("stochastic", title, heads, rows))
