"""The Adams-Bashforth rule on velocities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from advect.fields import Run
from advect.solvers.base import Context, Solver


@dataclass(frozen=True)
class AB2(Solver):
    r"""x' = x + h [(1 + w/2) v_0 - (w/2) v_1] with w = h / h_previous; the first step is Euler.

    Order 2 on any grid, one call a step, no path needed. `v_1` is the velocity of the step before.
    """

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        h, v = t - r, f(x, r)
        if carry is None:
            return x.add(v, alpha=h), (h, v)
        h_before, v_before = carry
        w = 0.5 * h / h_before
        return x.add(v, alpha=h * (1 + w)).add(v_before, alpha=-h * w), (h, v)
