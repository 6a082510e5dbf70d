r"""SDEs with the marginals of the ODE, at a noise level e(t) chosen after training.

    from source to data:  dx = (v + e s) dt + sqrt(2 e) dW
    from data to source:  dx = (v - e s) dt + sqrt(2 e) dW     (dt < 0, |dt| in the noise)

The score s comes from the velocity where the path is affine and its source N(m, s0^2) is independent of the data,
s = -(x0_hat - m)/(s0^2 g); elsewhere it is `context.score`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, bind
from advect.randomness import randn_like
from advect.solvers.base import Context, Solver
from advect.solvers.nodes import affine, node
from advect.solvers.noise_levels import NoiseLevel, SourceNoise


def require_score(context: Context, solver: object) -> None:
    """Refuse a context that has no score.

    Raises:
        InputError: With the sentence that says why.
    """
    name = type(solver).__name__
    if context.score_refusal is not None:
        raise InputError(f"{name} needs a score, but {context.score_refusal}: take an ODE solver such as Heun")
    if context.score is None:
        require_gaussian(context, solver)


def require_gaussian(context: Context, solver: object) -> tuple[float, float]:
    """Mean and standard deviation of the Gaussian source of an affine path, or a sentence."""
    affine(context.interpolant, solver)
    gaussian = context.source.gaussian
    if gaussian is None:
        raise InputError(
            f"{type(solver).__name__} needs a Gaussian source, but it is {type(context.source).__name__}: "
            "take an ODE solver such as Heun"
        )
    return gaussian


def drift(f: Callable[..., Tensor], x: Tensor, t: float, sign: float, e: NoiseLevel, run: Run, c: Context) -> Tensor:
    """v + sign e s at (x, t); finite at g=0 where e/g is."""
    v = f(x, t)
    if c.score is not None:
        level = e.level(t, c.interpolant)
        return v if level == 0.0 else v.add(bind(c.score, run, role="score")(x, t), alpha=sign * level)
    path = affine(c.interpolant, e)
    mean, std = c.source.gaussian or (0.0, 1.0)
    here, rate = node(path, t), sign * e.over_sigma(t, path) / std**2
    out = v.mul(1 - rate * here.x0_of_v).add(x, alpha=-rate * here.x0_of_x)
    return out if mean == 0.0 else out + rate * mean


class StochasticSolver(Solver):
    """A solver whose steps draw noise, and that needs a score to make up for it."""

    @property
    def stochastic(self) -> bool:
        return True

    def check(self, context: Context) -> None:
        require_score(context, self)


@dataclass(frozen=True)
class EulerMaruyama(StochasticSolver):
    """x' = x + h (v +- e s) + sqrt(2 e |h|) z, all at the left node; weak order 1, one call a step.

    Forwards (t > r) the sign is plus, backwards minus.

    Args:
        level: e(t).

    Source: arXiv 2303.08797 section 2.4; arXiv 2011.13456.
    """

    level: NoiseLevel = SourceNoise()

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        h = t - r
        x_new = x.add(drift(f, x, r, math.copysign(1.0, h), self.level, run, context), alpha=h)
        e = self.level.level(r, context.interpolant)
        return x_new.add(randn_like(x, run.generator), alpha=math.sqrt(2 * e * abs(h))), None


@dataclass(frozen=True)
class StochasticHeun(StochasticSolver):
    """Two evaluations of the drift and one draw of noise a step.

    "trapezoid" predicts with Euler-Maruyama, noise included, and averages the drifts at both ends; its noise has
    variance |h| (e_r + e_t). Since the noise does not depend on the state, the weak order is 2. "noise_first" adds the
    noise, then takes a Heun step whose two drifts are both at the end time (the released sampler of stochastic
    interpolants); weak order 1. Both are measured in docs/systems/principles.md. A step into t=0 or t=1, where the
    score may have no value, is Euler-Maruyama.

    Args:
        level: e(t).
        variant: "trapezoid" or "noise_first".

    Source: arXiv 2303.08797, released code, for "noise_first".
    """

    level: NoiseLevel = SourceNoise()
    variant: Literal["trapezoid", "noise_first"] = "trapezoid"

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        if t in (0.0, 1.0):
            return EulerMaruyama(self.level).step(f, x, r, t, carry, run, context)
        h, sign, level = t - r, math.copysign(1.0, t - r), self.level
        e_r, e_t = level.level(r, context.interpolant), level.level(t, context.interpolant)
        z = randn_like(x, run.generator)
        if self.variant == "noise_first":
            x = x.add(z, alpha=math.sqrt(2 * e_t * abs(h)))
            first = drift(f, x, t, sign, level, run, context)
            second = drift(f, x.add(first, alpha=h), t, sign, level, run, context)
            return x.add(first + second, alpha=0.5 * h), None
        noisy = x.add(z, alpha=math.sqrt(abs(h) * (e_r + e_t)))
        first = drift(f, x, r, sign, level, run, context)
        second = drift(f, noisy.add(first, alpha=h), t, sign, level, run, context)
        return noisy.add(first + second, alpha=0.5 * h), None
