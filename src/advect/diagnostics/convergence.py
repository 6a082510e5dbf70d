"""How fast a solver's error falls with the number of steps, and what each step costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, bind
from advect.solvers import Context, Solver
from advect.times import Grid


class ErrorAtCost(NamedTuple):
    """One run: steps, network calls, and the root mean square error over all numbers of the state."""

    steps: int
    calls: int
    error: float


@torch.no_grad()
def error_against_calls(
    solver: Solver,
    field: Callable[..., Any],
    x: Tensor,
    truth: Tensor,
    steps: Sequence[int],
    grid: Grid,
    *,
    context: Context = Context(),
    **cond: Any,
) -> list[ErrorAtCost]:
    """Run a solver with several numbers of steps and compare its ends with the true ones.

    Args:
        solver: The solver.
        field: The velocity ``f(x, t)``; float64 states keep rounding out of high orders.
        x: Start states (B, *shape).
        truth: Where they end, (B, *shape).
        steps: Numbers of steps.
        grid: The grid, taken with each number of steps.
        context: Path and source for the solvers that need them.
        **cond: Conditions of the field.
    """
    out = []
    for n in steps:
        run = Run(torch.Generator(x.device).manual_seed(0))
        end = solver(bind(field, run, **cond), x, grid.with_steps(n), run, context=context)
        out.append(ErrorAtCost(n, run.nfe, float((end - truth).square().mean().sqrt())))
    return out


def measured_order(runs: Sequence[ErrorAtCost]) -> float:
    """The order of convergence seen between the last two runs, log(e_1/e_2) / log(n_2/n_1)."""
    if len(runs) < 2:
        raise InputError(f"an order takes two runs, not {len(runs)}")
    a, b = runs[-2:]
    if a.error == 0 or b.error == 0 or a.steps == b.steps:
        raise InputError(f"runs of {a.steps} and {b.steps} steps with errors {a.error:g} and {b.error:g} show no order")
    return math.log(a.error / b.error) / math.log(b.steps / a.steps)
