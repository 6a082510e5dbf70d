"""Measure the weak orders of the stochastic solvers and write them into docs/systems/principles.md.

From the repository root:

    python scripts/measure_weak_orders.py

The data are N(1.2, .7^2), the path is the straight one from t=.05 to .95, so the SDE is linear, and the end of a run is
a sum of its start and its draws: x_n = c + a x_0 + sum_k b_k z_k. One run on n + 2 rows that differ in the start or in
one draw gives c, a and all b_k, and with them mean and variance of x_n without any sampling error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advect import Run
from advect.oracles import Gaussian
from advect.randomness import NumberedGenerator
from advect.solvers import (
    AncestralDDIM,
    EulerMaruyama,
    Overshooting,
    RectifiedSDE,
    ReverseNoise,
    SDEDPMpp,
    Solver,
    SourceNoise,
    StochasticHeun,
)
from advect.times import TimeGrid

PAGE = Path("docs/systems/principles.md")
BEGIN, END = "<!-- weak orders -->", "<!-- end of weak orders -->"
MEAN, STD, FIRST, LAST = 1.2, 0.7, 0.05, 0.95
STEPS = (80, 160, 320)
SOLVERS: dict[str, Solver] = {
    "`EulerMaruyama(SourceNoise())`": EulerMaruyama(SourceNoise()),
    "`EulerMaruyama(ReverseNoise())`": EulerMaruyama(ReverseNoise()),
    "`StochasticHeun(SourceNoise())`": StochasticHeun(SourceNoise()),
    "`StochasticHeun(ReverseNoise())`": StochasticHeun(ReverseNoise()),
    '`StochasticHeun(SourceNoise(), "noise_first")`': StochasticHeun(SourceNoise(), "noise_first"),
    "`AncestralDDIM(1)`, `SDEDPMpp(1)`": AncestralDDIM(1.0),
    "`SDEDPMpp(2)`": SDEDPMpp(2),
    "`RectifiedSDE()`": RectifiedSDE(),
    "`Overshooting()`": Overshooting(),
}


class OneAtATime(NumberedGenerator):
    """Draw k is 1 in row k + 2 and 0 elsewhere."""

    place = 2

    def draw(self, kind: Callable[..., Tensor], shape: Sequence[int], **options: Any) -> Tensor:
        out = torch.zeros(tuple(shape), dtype=options["dtype"])
        out[self.place] = 1.0
        self.place += 1
        return out


def moments(t: float) -> tuple[float, float]:
    """Mean and variance of x_t."""
    return t * MEAN, t**2 * STD**2 + (1 - t) ** 2


def errors(solver: Solver, n: int) -> tuple[float, float]:
    """Errors of mean and variance at the end of n equal steps from the exact law."""
    x = torch.zeros(n + 2, 1, dtype=torch.float64)
    x[1] = 1.0
    run = Run(OneAtATime("weak orders", first=0, count=n + 2))
    end = solver(Gaussian((MEAN,), STD**2).velocity(), x, TimeGrid(n, FIRST, LAST), run).flatten()
    constant, slope, draws = end[0], end[1] - end[0], end[2:] - end[0]
    mean, variance = moments(FIRST)
    exact_mean, exact_variance = moments(LAST)
    found = slope.square() * variance + draws.square().sum()
    return float(constant + slope * mean) - exact_mean, float(found) - exact_variance


def order(coarse: float, fine: float) -> str:
    """log2 of the ratio of two errors; a dash where there is none."""
    return "exact" if abs(fine) < 1e-13 else f"{math.log2(abs(coarse / fine)):.2f}"


def table() -> str:
    """The measured orders as Markdown."""
    rows = [
        f"| solver | variance, error at {STEPS[-1]} steps | order of the variance | order of the mean |",
        "|---|---|---|---|",
    ]
    for name, solver in SOLVERS.items():
        means, variances = zip(*(errors(solver, n) for n in STEPS), strict=True)
        rows.append(f"| {name} | {variances[-1]:.1e} | {order(*variances[-2:])} | {order(*means[-2:])} |")
    return "\n".join(rows)


def main() -> None:
    """Fill the marked place of the page."""
    text = PAGE.read_text()
    filled = re.sub(f"{BEGIN}\n.*?{END}", lambda _: f"{BEGIN}\n\n{table()}\n\n{END}", text, flags=re.DOTALL)
    if BEGIN not in text:
        raise SystemExit(f"{PAGE} has no {BEGIN}")
    PAGE.write_text(filled)


if __name__ == "__main__":
    main()
