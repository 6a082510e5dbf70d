r"""Transport costs of a flow, and where the cost of the training coupling goes.

For the exact velocity of a straight path,

    E|x1 - x0|^2 = E|z1 - z0|^2 + S + L_min

with (x0, x1) the training coupling, z the ODE, S the straightness and L_min the loss of the exact velocity (how much
the straight paths cross). Every |.|^2 is the sum over coordinates. Convention: t=0 source, t=1 data, v = dx/dt.

Source: arXiv 2209.03003, theorems 3.5 and 3.7; the identity follows from their proof and is checked in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advect.fields import Run, bind
from advect.interpolants import Interpolant, Linear
from advect.metrics.trajectories import straightness_per_sample
from advect.solvers import RK4, Solver
from advect.times import TimeDensity, Uniform


class CostBalance(NamedTuple):
    """The terms of the identity, 0-d tensors: `before` = `after` + `straightness` + `nonintersection`."""

    before: Tensor
    after: Tensor
    straightness: Tensor
    nonintersection: Tensor

    @property
    def gap(self) -> Tensor:
        """(after + straightness + nonintersection) / before - 1: zero for the exact velocity."""
        return (self.after + self.straightness + self.nonintersection) / self.before - 1


def transport_cost(x0: Tensor, x1: Tensor, power: float = 2.0) -> Tensor:
    """E |x1 - x0|^power, with the Euclidean norm over all but the first dimension."""
    return (x1 - x0).flatten(1).norm(dim=1).pow(power).mean()


def straightness(
    field: Callable[..., Any], x0: Tensor, steps: int = 100, *, solver: Solver | None = None, **cond: Any
) -> Tensor:
    r"""S = int_0^1 E |(z1 - z0) - v(z_t, t)|^2 dt along the ODE, by the trapezoid rule on the nodes of the grid.

    Zero if and only if one Euler step is exact. Taken on the training interpolation instead, the same formula gives the
    loss (L_min), which says nothing of the trajectories.

    Args:
        field: The velocity ``f(x, t, **cond)``.
        x0: Starting points z0, (B, *shape).
        steps: Equal steps of the solver and of the rule.
        solver: How the ODE is solved; RK4 if None.
        **cond: Conditions of the starting points.
    """
    return _along(field, x0, steps, solver or RK4(), cond)[1]


def nonintersection(
    field: Callable[..., Any],
    x0: Tensor,
    x1: Tensor,
    *,
    times: TimeDensity | None = None,
    interpolant: Interpolant | None = None,
    generator: torch.Generator | None = None,
    **cond: Any,
) -> Tensor:
    """The loss of a field on given pairs, summed over coordinates: L_min = int E Var(x1 - x0 | x_t) dt if it is exact.

    Args:
        field: The velocity ``f(x, t, **cond)``.
        x0: Source points, (B, *shape).
        x1: The data they are paired with, (B, *shape).
        times: Density of times; uniform if None.
        interpolant: The path; straight if None.
        generator: Feeds the times.
        **cond: Conditions of the pairs.
    """
    t = (times or Uniform()).sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device)
    point = (interpolant or Linear()).sample(x0, x1, t, generator)
    return (bind(field, **cond)(point.x, t) - point.v).square().flatten(1).sum(1).mean()


def cost_balance(
    field: Callable[..., Any],
    x0: Tensor,
    x1: Tensor,
    steps: int = 100,
    *,
    solver: Solver | None = None,
    generator: torch.Generator | None = None,
    **cond: Any,
) -> CostBalance:
    """All terms of the identity for a field on the straight path and the pairs it was trained on.

    Args:
        field: The velocity.
        x0: Source points of the training coupling; the ODE starts from them too.
        x1: The data they are paired with.
        steps: Steps of the ODE.
        solver: How it is solved; RK4 if None.
        generator: Feeds the times of the loss.
        **cond: Conditions of the pairs.
    """
    after, straight = _along(field, x0, steps, solver or RK4(), cond)
    crossing = nonintersection(field, x0, x1, generator=generator, **cond)
    return CostBalance(transport_cost(x0, x1), after, straight, crossing)


@torch.no_grad()
def _along(
    field: Callable[..., Any], x0: Tensor, steps: int, solver: Solver, cond: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """E|z1 - z0|^2 and S."""
    run = Run()
    path = solver(bind(field, run, **cond), x0, steps, run, record=True)
    return transport_cost(path.states[0], path.states[-1]), straightness_per_sample(path).mean()
