r"""D-Flow: the source point is optimised, with gradients through the whole flow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import InverseMethod, Problem, squared
from advect.solvers import Context, Euler
from advect.times import Reversed, TimeGrid


@dataclass(frozen=True)
class DFlow(InverseMethod):
    r"""min over x0 of ||A D Psi(x0) - y||^2 + decay (||x0||^2 / 2 - (d - 1) log ||x0||), Psi some Euler steps.

    It starts at sqrt(keep) Psi^-1(B y) + sqrt(1 - keep) eps and is solved by L-BFGS. The samples of a batch share its
    line search, whose target is the sum over them. Every evaluation runs the network `steps` times forwards and
    backwards: the most expensive method here by far.

    Args:
        decay: Weight of the source's density of the length of x0.
        steps: Euler steps of Psi.
        iterations: L-BFGS iterations; published 20 outer times 20 inner ones.
        evaluations: Most evaluations of the target; None for 1.25 per iteration.
        keep: Share of the inverted measurement in the start, in [0, 1].

    Source: arXiv 2402.14017, section 4.
    """

    decay: float = 0.01
    steps: int = 6
    iterations: int = 400
    evaluations: int | None = None
    keep: float = 0.1

    def __post_init__(self) -> None:
        if min(self.steps, self.iterations) < 1 or not self.decay >= 0 or not 0 <= self.keep <= 1:
            raise InputError(
                f"steps is {self.steps}, iterations {self.iterations}, decay {self.decay}, keep {self.keep}: give "
                "steps and iterations of at least 1, a decay of at least 0, keep in [0, 1]"
            )

    def solve(self, problem: Problem) -> Tensor:
        grid, context = TimeGrid(self.steps), Context(problem.interpolant)
        inverse = Euler()(problem.field, problem.start(), Reversed(grid), problem.run, context=context)
        x0 = (math.sqrt(self.keep) * inverse + math.sqrt(1 - self.keep) * problem.noise()).detach().requires_grad_()
        search = torch.optim.LBFGS(
            [x0],
            max_iter=self.iterations,
            max_eval=self.evaluations,
            history_size=20,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def flow(start: Tensor) -> Tensor:
            return Euler()(problem.field, start, grid, problem.run, context=context)

        def target() -> Tensor:
            with torch.enable_grad():
                size = (x0 / problem.std).flatten(1).square().sum(1)
                density = 0.5 * size - 0.5 * (x0[0].numel() - 1) * size.log()
                loss = (squared(problem.residual(flow(x0))) + self.decay * density).sum()
                x0.grad = torch.autograd.grad(loss, x0)[0]  # the weights of the network get none
            return loss.detach()

        search.step(target)
        return flow(x0.detach())
