r"""FlowDPS: posterior sampling that corrects the predicted data end and mixes fresh noise into the source end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import InverseMethod, Problem, length
from advect.times import Grid, ShiftedGrid


@dataclass(frozen=True)
class FlowDPS(InverseMethod):
    r"""At each step from t to t': z = x1hat; `inner` times z <- z - rate grad ||B (A D z - y)||; then

        z <- t x1hat + (1 - t) z,    n = sqrt(tau') x0hat + sqrt(1 - tau') eps,    x <- a' z + g' n.

    Args:
        rate: Step size of the data gradient; the released value for latents of Stable Diffusion 3 is 30.
        inner: Data steps per time.
        grid: Times; released with a shift of 4.

    Source: arXiv 2503.08136, algorithm 1. The loss is a norm, not its square; B is the operator's back-projection.
    """

    rate: float = 0.3
    inner: int = 3
    grid: Grid = ShiftedGrid(50, 4.0)

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.inner < 1:
            raise InputError(f"rate is {self.rate} and inner {self.inner}: give a rate above 0, inner of at least 1")

    def solve(self, problem: Problem) -> Tensor:
        times = self.grid.times(problem.interpolant)
        x = problem.noise()
        for t, later in pairwise(times):
            x0, x1 = problem.ends(x, t)
            z = x1
            for _ in range(self.inner):
                z = z - self.rate * problem.data_gradient(
                    z, lambda s: length(problem.back_projected(problem.residual(s)))
                )
            z = t * x1 + (1 - t) * z
            if later == times[-1] == 1.0:
                return z
            noise = math.sqrt(1 - later) * x0 + math.sqrt(later) * problem.noise()
            x = problem.between(noise, z, later)
        return x
