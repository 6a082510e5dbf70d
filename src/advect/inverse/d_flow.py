r"""D-Flow: the source point is optimised, with gradients through the whole flow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import InverseMethod, Problem, squared
from advect.inverse.lbfgs import minimise
from advect.solvers import Context, Euler
from advect.times import Reversed, TimeGrid


@dataclass(frozen=True)
class DFlow(InverseMethod):
    r"""min over x0 of ||A D Psi(x0) - y||^2 + decay (||x0||^2 / 2 - (d - 1) log ||x0||), Psi some Euler steps.

    It starts at sqrt(keep) Psi^-1(B y) + sqrt(1 - keep) eps and is solved by L-BFGS, each sample with a history and a
    step length of its own. Every evaluation runs the network `steps` times forwards and backwards: the most expensive
    method here by far.

    Args:
        decay: Weight of the source's density of the length of x0.
        steps: Euler steps of Psi.
        iterations: L-BFGS iterations, one evaluation or more each; published 20 outer times 20 inner ones.
        keep: Share of the inverted measurement in the start, in [0, 1].

    Source: arXiv 2402.14017, section 4.
    """

    decay: float = 0.01
    steps: int = 6
    iterations: int = 400
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
        x0 = math.sqrt(self.keep) * inverse + math.sqrt(1 - self.keep) * problem.noise()

        def flow(start: Tensor) -> Tensor:
            return Euler()(problem.field, start, grid, problem.run, context=context)

        def target(point: Tensor) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                leaf = point.detach().requires_grad_()
                size = (leaf / problem.std).flatten(1).square().sum(1)
                density = 0.5 * size - 0.5 * (leaf[0].numel() - 1) * size.log()
                loss = squared(problem.residual(flow(leaf))) + self.decay * density
                # with respect to the leaf alone: the weights of the network get no gradient
                return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]

        return flow(minimise(target, x0, self.iterations))
