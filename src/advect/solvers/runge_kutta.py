"""Explicit Runge-Kutta rules: tableaus and one stepper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from advect.fields import Run
from advect.solvers.base import Context, Solver


class RungeKutta(Solver):
    r"""k_i = f(x + h sum_j a_ij k_j, r + c_i h),  x' = x + h sum_i b_i k_i.

    A member is its tableau: `a` (rows below the diagonal), `b`, `c`.
    """

    a: ClassVar[tuple[tuple[float, ...], ...]]
    b: ClassVar[tuple[float, ...]]
    c: ClassVar[tuple[float, ...]]

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        h = t - r
        ks: list[Tensor] = []
        for row, c in zip(self.a, self.c, strict=True):
            y = x
            for weight, k in zip(row, ks, strict=True):
                if weight:
                    y = y.add(k, alpha=h * weight)
            ks.append(f(y, r + c * h if c != 1.0 else t))
        for weight, k in zip(self.b, ks, strict=True):
            if weight:
                x = x.add(k, alpha=h * weight)
        return x, None


@dataclass(frozen=True)
class Euler(RungeKutta):
    """x' = x + h f(x, r). Order 1, one call a step."""

    a = ((),)
    b = (1.0,)
    c = (0.0,)


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Trapezoid with an Euler predictor. Order 2, two calls a step."""

    a = ((), (1.0,))
    b = (0.5, 0.5)
    c = (0.0, 1.0)
