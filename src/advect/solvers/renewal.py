r"""Stochastic curved Euler: predict both ends, renew part of the source end, and go back to the path.

    x_t = a_t D + g_t [m + rho (x0_hat - m) + sqrt(1 - rho^2) s0 z]

with D and x0_hat predicted at (x_r, r), source N(m, s0^2) and rho, the part that is kept, given by each member. rho = 1
is DDIM. The marginals are kept only if 1 - rho vanishes with the step: D is a mean, not a draw of x1, so renewing a
fixed share in each step narrows the law however many steps there are (std .68 for .70 at rho = .9). All go from source
to data only; finite at both ends of any path.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from advect.errors import InputError
from advect.fields import Run
from advect.randomness import randn_like
from advect.solvers.base import Context
from advect.solvers.nodes import Node, affine, first_order, node
from advect.solvers.sde import StochasticSolver, require_gaussian


def forwards(r: float, t: float, solver: object) -> None:
    """Refuse a step from data to source."""
    if t < r:
        raise InputError(
            f"{type(solver).__name__} goes from source to data, but the grid steps from t={r:g} to {t:g}: "
            "take EulerMaruyama or an ODE solver to go back"
        )


class _SourceToData(StochasticSolver):
    """A stochastic solver that renews a Gaussian source on the way, from source to data only."""

    def check(self, context: Context) -> None:
        super().check(context)
        require_gaussian(context, self)


class Renewal(_SourceToData):
    """The shared stepper of stochastic curved Euler; a member says how much of x0_hat it keeps."""

    @abstractmethod
    def kept(self, here: Node, there: Node) -> float:
        """rho in [0, 1] for the step between two nodes."""

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        forwards(r, t, self)
        path = affine(context.interpolant, self)
        here, there = node(path, r), node(path, t)
        rho, g = self.kept(here, there), there.g
        mean, std = context.source.gaussian or (0.0, 1.0)
        of_x, of_v = first_order(path, r, t, rho)
        y = x.mul(of_x).add(f(x, r), alpha=of_v)
        if mean:
            y = y + mean * g * (1 - rho)
        return y.add(randn_like(x, run.generator), alpha=g * std * math.sqrt(max(0.0, 1 - rho * rho))), None


@dataclass(frozen=True)
class AncestralDDIM(Renewal):
    r"""rho^2 = 1 - eta^2 (1 - e^{-2h}), h the step in half log-SNR: eta=0 is DDIM, eta=1 ancestral DDPM.

    With eta=1 it is also SDE-DPM-Solver++ of first order and the stochastic curved Euler with rho = e^{-h}.

    Args:
        eta: Share of the noise, 0 to 1.

    Source: arXiv 2010.02502 eq. 16.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta is {self.eta}: it runs from 0 (DDIM) to 1 (ancestral)")

    def kept(self, here: Node, there: Node) -> float:
        return math.sqrt(1 + self.eta**2 * math.expm1(-2 * (there.half_log_snr - here.half_log_snr)))


@dataclass(frozen=True)
class RectifiedSDE(Renewal):
    r"""rho = 1 - min(c dt g_r^{p-1}, 1): the noise is renewed at a rate per unit of time. c=0 is DDIM.

    Args:
        scale: c, at least 0.
        power: p.

    Source: the SDE sampler of github.com/lqiang67/rectified-flow, restated; arXiv 2209.03003 has the idea.
    """

    scale: float = 1.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise InputError(f"scale is {self.scale}: the rate of renewal is at least 0")

    def kept(self, here: Node, there: Node) -> float:
        return 1 - min(self.scale * (there.t - here.t) * here.g ** (self.power - 1), 1.0)


@dataclass(frozen=True)
class Overshooting(_SourceToData):
    r"""Euler past the next time, then back to it with noise.

    With o = min(t + c (t - r)(1 - t), 1): x_o = x + (o - r) v, then
    x_t = (a_t/a_o) x_o + sqrt(g_t^2 - (a_t g_o/a_o)^2) z. One call a step; c=0 is Euler.

    Args:
        scale: c, at least 0.

    Source: the overshooting sampler of github.com/lqiang67/rectified-flow; arXiv 2410.07303 ("AMO sampler").
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise InputError(f"scale is {self.scale}: how far to overshoot is at least 0")

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        forwards(r, t, self)
        path = affine(context.interpolant, self)
        o = min(t + self.scale * (t - r) * (1 - t), 1.0)
        there, over = node(path, t), node(path, o)
        mean, std = context.source.gaussian or (0.0, 1.0)
        ratio = there.a / over.a
        y = x.add(f(x, r), alpha=o - r).mul(ratio)
        kept = ratio * over.g
        if mean:
            y = y + mean * (there.g - kept)
        noise = std * math.sqrt(max(0.0, there.g**2 - kept**2))
        return y.add(randn_like(x, run.generator), alpha=noise), None


@dataclass(frozen=True)
class SDEDPMpp(_SourceToData):
    r"""x_t = (g_t/g_r) e^{-h} x + a_t (1 - e^{-2h}) (m0 + D1/2) + g_t sqrt(1 - e^{-2h}) s0 z, D1 as in DPM-Solver++ 2M.

    One call a step, from source to data only. A step from a=0 is a_t m0 + g_t z (the source is all renewed), one
    into g=0 gives D exactly.

    Args:
        order: 1 (which is ancestral DDIM with eta=1) or 2 (with the difference term).

    Source: DPM-Solver++, arXiv 2211.01095, section 6 and algorithm 5 of its appendix.
    """

    order: int = 2

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise InputError(f"order is {self.order}: SDE-DPM-Solver++ is offered with order 1 or 2")

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        forwards(r, t, self)
        path = affine(context.interpolant, self)
        here, there = node(path, r), node(path, t)
        if self.order == 1 or carry is None or not there.inside:
            v = f(x, r)
            after = (here.half_log_snr, here.x1(v, x)) if self.order == 2 and here.inside else None
            return AncestralDDIM().step(lambda *_: v, x, r, t, None, run, context)[0], after
        mean, std = context.source.gaussian or (0.0, 1.0)
        h = there.half_log_snr - here.half_log_snr
        data = here.x1(f(x, r), x)
        time_before, data_before = carry
        weight = -there.a * math.expm1(-2 * h)
        half = 0.5 * h / (here.half_log_snr - time_before)
        of_x = there.g / here.g * math.exp(-h)
        y = x.mul(of_x).add(data, alpha=weight * (1 + half)).add(data_before, alpha=-weight * half)
        if mean:
            y = y + mean * (there.g - of_x * here.g)
        noise = there.g * std * math.sqrt(-math.expm1(-2 * h))
        return y.add(randn_like(x, run.generator), alpha=noise), (here.half_log_snr, data)
