r"""Multistep rules in log-SNR on the data prediction D = E[x1 | x]: a rule, and one shared stepper.

With half log-SNR lambda, h = lambda_t - lambda_r and m_0, m_1, ... the newest predictions,

    x_t = (g_t/g_r) x + a_t sum_j w_j m_j,

where a member's rule gives w from lambda_t and the lambdas of the m_j.
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from advect.fields import Run
from advect.solvers.base import Context, Solver
from advect.solvers.ddim import second_order_single
from advect.solvers.nodes import affine, first_order, middle, node

FirstStep = Literal["ddim", "2s"]


@functools.lru_cache(maxsize=4096)
def second_order_weights(target: float, past: tuple[float, float]) -> tuple[float, ...]:
    """Weights of -expm1(-h) (m0 + D1/2), D1 = (m0 - m1) h / h_previous."""
    h = target - past[0]
    e, half = math.expm1(-h), 0.5 * h / (past[0] - past[1])
    return -e * (1 + half), e * half


@functools.lru_cache(maxsize=4096)
def third_order_weights(target: float, past: tuple[float, float, float], c: float) -> tuple[float, ...]:
    """Weights of -E m0 + (E/h + 1) D1 - c ((E + h)/h^2 - 1/2) D2 with E = expm1(-h) and divided differences D1, D2."""
    h = target - past[0]
    r0, r1 = (past[0] - past[1]) / h, (past[1] - past[2]) / h
    e = math.expm1(-h)
    slope, bend = e / h + 1, c * ((e + h) / h**2 - 0.5)
    newer = (slope * (2 * r0 + r1) - bend) / (r0 + r1)  # factor of (m0 - m1)/r0
    older = (bend - slope * r0) / (r0 + r1)  # factor of (m1 - m2)/r1
    return -e + newer / r0, older / r1 - newer / r0, -older / r1


class LogSNRMultistep(Solver):
    """The shared stepper: history, order ramp, and what happens at the ends of the path.

    The order ramps up with the number of predictions at hand. A step from a=0 or g=0 is of first order and leaves
    no history (its log-SNR is infinite), and so is a step into g=0, which gives D exactly. A break of the grid
    starts anew.
    """

    first: FirstStep

    @property
    @abstractmethod
    def order(self) -> int:
        """How many predictions the rule uses at most."""

    @abstractmethod
    def weights(self, target: float, past: tuple[float, ...]) -> tuple[float, ...]:
        """w_j from the half log-SNR of the end of the step and those of the 2 to `order` newest predictions."""

    def check(self, context: Context) -> None:
        affine(context.interpolant, self)

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        path = affine(context.interpolant, self)
        here, there = node(path, r), node(path, t)
        v = f(x, r)
        if not here.inside:
            of_x, of_v = first_order(path, r, t)
            return x.mul(of_x).add(v, alpha=of_v), None
        times, datas = ((), ()) if carry is None else carry
        times = (here.half_log_snr, *times)[: self.order]
        datas = (here.x1(v, x), *datas)[: self.order]
        if not there.inside or (len(times) == 1 and self.first == "ddim"):
            of_x, of_v = first_order(path, r, t)
            return x.mul(of_x).add(v, alpha=of_v), (times, datas)
        if len(times) == 1:
            return second_order_single(f, x, datas[0], here, middle(path, r, t), there), (times, datas)
        y = x.mul(there.g / here.g)
        for weight, data in zip(self.weights(there.half_log_snr, times), datas, strict=True):
            y = y.add(data, alpha=there.a * weight)
        return y, (times, datas)


@dataclass(frozen=True)
class DPMpp2M(LogSNRMultistep):
    r"""x_t = (g_t/g_r) x - a_t expm1(-h) (m0 + D1/2), D1 = (m0 - m1) h / h_previous. Order 2, one call a step.

    Args:
        first: The first step: "ddim" (one call) or "2s" (two calls, second order).

    Source: DPM-Solver++, arXiv 2211.01095, algorithm 2.
    """

    first: FirstStep = "ddim"

    @property
    def order(self) -> int:
        return 2

    def weights(self, target: float, past: tuple[float, ...]) -> tuple[float, ...]:
        return second_order_weights(target, past)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class DPMpp3M(LogSNRMultistep):
    r"""x_t = (g_t/g_r) x - a_t E m0 + a_t (E/h + 1) D1 - c a_t ((E + h)/h^2 - 1/2) D2, with E = expm1(-h).

    A = (m0 - m1)/r0, B = (m1 - m2)/r1, D1 = A + r0/(r0 + r1) (A - B), D2 = (A - B)/(r0 + r1), r0 and r1 the last two
    steps in log-SNR over h. c = 2, since the second derivative of D is twice the divided difference: one step is
    then exact for D quadratic in the log-SNR, and the order is 3. One call a step.

    Args:
        first: The first step: "ddim" (one call; it limits the measured order to about 2.5) or "2s" (two calls).
        compat: Take c = 1 as the published code does (diffusers, the original DPM-Solver, k-diffusion); order 2.

    Source: DPM-Solver++, arXiv 2211.01095, appendix; the factor c = 2 is derived here (docs/systems/principles.md).
    """

    first: FirstStep = "ddim"
    compat: bool = False

    @property
    def order(self) -> int:
        return 3

    def weights(self, target: float, past: tuple[float, ...]) -> tuple[float, ...]:
        if len(past) == 2:
            return second_order_weights(target, past)
        return third_order_weights(target, past, 1.0 if self.compat else 2.0)  # pyright: ignore[reportArgumentType]
