r"""PnP-Flow: gradient steps on the data alternate with noising and denoising by the flow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import InverseMethod, Problem, squared


@dataclass(frozen=True)
class PnPFlow(InverseMethod):
    r"""For t = 0, 1/n, ..., 1 - 1/n: z = x - rate (1 - t)^power A'(A x - y) / ||A||^2, then x = mean D_t(a z + g eps).

    D_t(u) = E[x1 | x_t = u] is read off the field. The start does not matter, since at t=0 nothing of z is left.

    Args:
        steps: Times.
        draws: Draws of eps that are averaged, each one network call.
        rate: Step size in units of 1/||A||^2.
        power: Exponent of the step size's decay.

    Source: arXiv 2410.02423, algorithm 3.
    """

    steps: int = 100
    draws: int = 5
    rate: float = 1.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if min(self.steps, self.draws) < 1 or not self.rate > 0 or not self.power >= 0:
            raise InputError(
                f"steps is {self.steps}, draws {self.draws}, rate {self.rate}, power {self.power}: give steps and "
                "draws of at least 1, a rate above 0 and a power of at least 0"
            )

    def solve(self, problem: Problem) -> Tensor:
        x = problem.start()
        step = self.rate / problem.operator.norm_squared(problem.shape)
        for k in range(self.steps):
            t = k / self.steps
            pull = problem.data_gradient(x, lambda s: 0.5 * squared(problem.residual(s)))
            z = x - step * (1 - t) ** self.power * pull
            ends = [problem.ends(problem.between(problem.noise(), z, t), t).x1 for _ in range(self.draws)]
            x = ends[0] if self.draws == 1 else torch.stack(ends).mean(0)
        return x
