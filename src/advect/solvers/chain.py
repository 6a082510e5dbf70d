"""A chain of stochastic transitions, each drawn by integrating the head of a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import BoundKernel, Kind, Run, Step
from advect.interpolants import as_chain
from advect.randomness import randn
from advect.solvers.base import Context, Solver, _At, _Recorder
from advect.solvers.runge_kutta import Euler
from advect.times import Grid, TimeGrid

_INNER = Context()
"""The inner flow runs straight from N(0, I) at s=0 to y at s=1, whatever the path of the chain."""


@dataclass(frozen=True)
class ChainSolver(Solver):
    r"""x_{k+1} = step(x_k, y) with y ~ p(y | x_k), drawn by an inner flow from fresh noise in every transition.

    In a transition the backbone is called once for every round of the kernel (once for a kernel that draws all tokens
    together, once a token for an autoregressive one), then the head as often as the inner solver asks. One inner Euler
    step gives the mean of y, which is an Euler step of the velocity: nothing stochastic is left, so take more.

    The path is a chain (:class:`~advect.interpolants.LinearChain`, :class:`~advect.interpolants.IndependentChain`), or
    the straight path, which stands for the first.

    Args:
        inner: How the head's velocity is integrated.
        inner_grid: At which inner times s in [0, 1].

    Source: arXiv 2506.23589, algorithms 4, 6 and 8.
    """

    inner: Solver = Euler()
    inner_grid: Grid = TimeGrid(16)

    def __post_init__(self) -> None:
        if self.inner.takes != "field":
            raise InputError(
                f"inner is {type(self.inner).__name__}, which integrates a {self.inner.takes}, but the head of a "
                "kernel is a velocity: take Euler or Heun"
            )

    @property
    def stochastic(self) -> bool:
        return True

    @property
    def takes(self) -> Kind:
        return "kernel"

    def check(self, context: Context) -> None:
        as_chain(context.interpolant)
        self.inner.check(_INNER)

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        chain = as_chain(context.interpolant)
        chain.check(r, t)
        kernel, place = _unwrapped(f)
        shape = kernel.tokens(x).shape
        rounds = kernel.rounds
        if rounds > 1:
            shape = (shape[0], shape[1] // rounds, *shape[2:])
        groups: list[Tensor] = []
        for _ in range(rounds):
            h, carry = kernel.look(x, r, groups[-1] if groups else None, carry, step=place)
            noise = randn(shape, run.generator, dtype=x.dtype, device=x.device)
            head = _Head(kernel, r, h, place)
            groups.append(self.inner(head, noise, self.inner_grid, Run(run.generator), context=_INNER))
        y = kernel.untokens(groups[0] if rounds == 1 else torch.cat(groups, 1))
        out = chain.step(x, y, r, t)
        if isinstance(f, _Recorder):  # what is recorded as the velocity of a transition is its mean slope
            f.firsts.append((out - x) / (t - r))
            f.fresh = False
        return out, carry


class _Head:
    """The head of one round as a bound field of (y, s); the kernel counts its calls."""

    is_bound = True

    def __init__(self, kernel: BoundKernel, r: float, h: Any, place: Step | None) -> None:
        self.kernel, self.r, self.h, self.place = kernel, r, h, place

    def __call__(self, y: Tensor, s: Tensor | float, step: Step | None = None) -> Tensor:
        return self.kernel.velocity(y, s, self.r, self.h, step=self.place)


def _unwrapped(f: Any) -> tuple[Any, Step | None]:
    """The bound kernel under what the loop wraps around it, and where in the trajectory it stands."""
    place = None
    while isinstance(f, (_At, _Recorder)):
        place = f.step if isinstance(f, _At) else place
        f = f.f
    if not hasattr(f, "look"):
        raise InputError("ChainSolver integrates a transition kernel (features and head), and was given a velocity")
    return f, place
