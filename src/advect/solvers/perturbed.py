"""Errors on purpose: noise added to the state before every step, to see how a flow bears them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from advect.errors import InputError
from advect.fields import Kind, Run
from advect.randomness import randn_like
from advect.solvers.base import Context, Solver
from advect.solvers.ddim import EDMHeun
from advect.solvers.nodes import affine, node


@dataclass(frozen=True)
class Perturbed(Solver):
    r"""x <- x + alpha s g(r) z before every step of another solver, z ~ N(0, I), s the scale of the source.

    On the state x/a that is alpha sigma_i z at noise level sigma_i = s g/a. The noise is Gaussian whatever the source
    is, drawn once a step and not between its stages. It is an error, not a sampler: the field is told the old time, so
    the state holds more noise than that time has.

    Args:
        solver: Takes the steps.
        alpha: Size of the error as a share of the noise at that time, at least 0; 0.1 and 0.2 are published.

    Source: PFGM++, arXiv 2302.04265, the experiments on robustness.
    """

    solver: Solver = EDMHeun()
    alpha: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}: the size of the added noise is a finite number, at least 0")

    @property
    def stochastic(self) -> bool:
        return self.alpha > 0 or self.solver.stochastic

    @property
    def takes(self) -> Kind:
        return self.solver.takes

    def check(self, context: Context) -> None:
        affine(context.interpolant, self)
        self.solver.check(context)

    def landmarks(self, times: list[float], every: bool) -> list[float]:
        return self.solver.landmarks(times, True)  # an adaptive solver stops wherever noise comes in

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        if self.alpha > 0:
            scale = (context.source.location_scale or (0.0, 1.0))[1]
            noise = self.alpha * scale * node(affine(context.interpolant, self), r).g
            x = x.add(randn_like(x, run.generator), alpha=noise)
        return self.solver.step(f, x, r, t, carry, run, context)
