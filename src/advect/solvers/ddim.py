"""First-order, single-step and EDM solvers in the data prediction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from advect.fields import Run
from advect.solvers.base import Context, Solver
from advect.solvers.nodes import Node, affine, first_order, middle, node


@dataclass(frozen=True)
class DDIM(Solver):
    r"""x_t = a_t D + g_t x0_hat = (g_t/g_r) x + (a_t - a_r g_t/g_r) D, with D = E[x1 | x] predicted at r.

    Order 1, one call a step. On the straight path it is Euler; on other paths it follows their curve ("curved
    Euler"), and its states on two paths agree where the log-SNRs do. Finite at both ends of any path.

    Source: arXiv 2010.02502 eq. 12 with eta = 0.
    """

    def check(self, context: Context) -> None:
        affine(context.interpolant, self)

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        of_x, of_v = first_order(context.interpolant, r, t)  # pyright: ignore[reportArgumentType]
        return x.mul(of_x).add(f(x, r), alpha=of_v), None


def second_order_single(
    f: Callable[..., Tensor], x: Tensor, data: Tensor, here: Node, mid: Node, there: Node
) -> Tensor:
    """The DPM-Solver++ 2S step from `here` to `there`, whose first prediction `data` is made already."""
    h = there.half_log_snr - here.half_log_snr
    u = x.mul(mid.g / here.g).add(data, alpha=-mid.a * math.expm1(-0.5 * h))
    data = mid.x1(f(u, mid.t), u)
    return x.mul(there.g / here.g).add(data, alpha=-there.a * math.expm1(-h))


@dataclass(frozen=True)
class DPMpp2S(Solver):
    r"""u = (g_m/g_r) x - a_m expm1(-h/2) D(x, r), then x_t = (g_t/g_r) x - a_t expm1(-h) D(u, m).

    m is the time halfway in log-SNR, h the step in half log-SNR. Order 2, two calls a step; a step from a=0 or g=0
    or into one of them is of first order with one call.

    Source: DPM-Solver++, arXiv 2211.01095, algorithm 1 with r_1 = 1/2.
    """

    def check(self, context: Context) -> None:
        affine(context.interpolant, self)

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        path = affine(context.interpolant, self)
        here, there = node(path, r), node(path, t)
        v = f(x, r)
        if here.inside and there.inside:
            return second_order_single(f, x, here.x1(v, x), here, middle(path, r, t), there), None
        of_x, of_v = first_order(path, r, t)
        return x.mul(of_x).add(v, alpha=of_v), None


@dataclass(frozen=True)
class EDMHeun(Solver):
    r"""Heun in the clock s = g/a on the state x/a, whose velocity is the source prediction x0_hat = (x/a - D)/s:

        x_t / a_t = x_r / a_r + (s_t - s_r) (x0_hat_r + x0_hat_t) / 2

    Order 2, two calls a step; a step from a=0, or into g=0 or a=0, is of first order with one call, so n steps to
    the data make 2n-1 calls.

    Source: EDM, arXiv 2206.00364, algorithm 1 on the VE path; here on any affine path.
    """

    def check(self, context: Context) -> None:
        affine(context.interpolant, self)

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        path = affine(context.interpolant, self)
        here, there = node(path, r), node(path, t)
        v = f(x, r)
        of_x, of_v = first_order(path, r, t)
        guess = x.mul(of_x).add(v, alpha=of_v)
        if not (here.a and there.a and there.g):
            return guess, None
        half = 0.5 * there.a * (there.g / there.a - here.g / here.a)
        slopes = here.x0(v, x).add(there.x0(f(guess, t), guess))
        return x.mul(there.a / here.a).add(slopes, alpha=half), None
