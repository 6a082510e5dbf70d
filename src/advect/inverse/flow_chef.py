r"""FlowChef: steering of the trajectory by the data gradient at its predicted end, the network left out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import InverseMethod, Problem, length, squared
from advect.times import Grid, TimeGrid


@dataclass(frozen=True)
class FlowChef(InverseMethod):
    r"""x <- a' x1hat + g' x0hat - rate grad_{x1hat} L,  L = ||B (A D x1hat - y)|| or its square.

    Args:
        rate: Step size; 50 for the norm on latents of Stable Diffusion 3 in published comparisons.
        loss: "squared" (a step of 1/2 removes the seen residual where B A is a projection) or "length".
        grid: Times.

    Source: arXiv 2412.00100, algorithm 1.
    """

    rate: float = 0.5
    loss: Literal["squared", "length"] = "squared"
    grid: Grid = TimeGrid(50)

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise InputError(f"rate is {self.rate}: the step size of the data gradient is above 0")
        if self.loss not in ("squared", "length"):
            raise InputError(f"loss is {self.loss!r}: choose squared or length")

    def solve(self, problem: Problem) -> Tensor:
        measure = squared if self.loss == "squared" else length
        times = self.grid.times(problem.interpolant)
        x = problem.noise()
        for t, later in pairwise(times):
            x0, x1 = problem.ends(x, t)
            pull = problem.data_gradient(x1, lambda s: measure(problem.back_projected(problem.residual(s))))
            x = problem.between(x0, x1, later) - self.rate * pull
        return x
