"""Explicit Runge-Kutta rules: tableaus and one stepper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from advect.errors import InputError
from advect.fields import Run
from advect.solvers.base import Context, Solver


class RungeKutta(Solver):
    r"""k_i = f(x + h sum_j a_ij k_j, r + c_i h),  x' = x + h sum_i b_i k_i.

    A member is its tableau: `a` (rows below the diagonal), `b`, `c`.
    """

    a: ClassVar[tuple[tuple[float, ...], ...]]
    b: ClassVar[tuple[float, ...]]
    c: ClassVar[tuple[float, ...]]

    def __new__(cls, *args: Any, **kwargs: Any) -> RungeKutta:
        if not hasattr(cls, "c"):
            raise InputError(f"{cls.__name__} has no tableau: take a member, like Heun or RK4, or write a, b, c")
        return super().__new__(cls)

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
class Midpoint(RungeKutta):
    """x' = x + h f(x + h/2 f(x, r), r + h/2). Order 2, two calls a step; never looks at the end of a step."""

    a = ((), (0.5,))
    b = (0.0, 1.0)
    c = (0.0, 0.5)


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Trapezoid with an Euler predictor. Order 2, two calls a step."""

    a = ((), (1.0,))
    b = (0.5, 0.5)
    c = (0.0, 1.0)


@dataclass(frozen=True)
class RK4(RungeKutta):
    """The classical rule. Order 4, four calls a step."""

    a = ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0))
    b = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    c = (0.0, 0.5, 0.5, 1.0)


@dataclass(frozen=True)
class EulerLast(Solver):
    """Another solver, whose step into t=1 is Euler: n steps of Heun then make 2n-1 calls, none of them at t=1.

    Args:
        solver: Takes every other step.
    """

    solver: Solver = Heun()

    @property
    def stochastic(self) -> bool:
        return self.solver.stochastic

    def check(self, context: Context) -> None:
        self.solver.check(context)

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        if t == 1.0:
            return x.add(f(x, r), alpha=t - r), None
        return self.solver.step(f, x, r, t, carry, run, context)
