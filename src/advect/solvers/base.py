"""The seat "how it is integrated": a solver is a tableau or a multistep rule plus one shared loop."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Bound, Kind, Run, Step, bind
from advect.interpolants import AffineInterpolant, Interpolant, Linear
from advect.parts import Part
from advect.sources import Gaussian, Source
from advect.times import Grid, TimeGrid

GridLike = Grid | int | Sequence[float]


class Context(NamedTuple):
    """What some solvers need beside the velocity.

    Attributes:
        interpolant: The path; lambda-solvers and SDEs convert v to x1, x0 or score with it.
        source: The distribution at t=0; the score of an affine path needs its mean and spread.
        score: A callable ``score(x, t)`` where the velocity does not give one (two-sided stochastic paths).
        score_refusal: The sentence that says why there is no score, or None.
        refine: A second field, for programmes that use one.
    """

    interpolant: Interpolant = Linear()
    source: Source = Gaussian()
    score: Callable[[Tensor, Tensor], Tensor] | None = None
    score_refusal: str | None = None
    refine: Callable[..., Tensor] | None = None


class Trajectory(NamedTuple):
    """A recorded run: `states` (n+1, B, *shape), `velocities` (n, B, *shape) at the start of each step, `times`."""

    states: Tensor
    velocities: Tensor
    times: list[float]


def nodes(grid: GridLike, interpolant: Interpolant | None = None) -> tuple[list[float], tuple[int, ...]]:
    """The times and breaks of a grid, a number of steps, or a list of times."""
    if isinstance(grid, int):
        grid = TimeGrid(grid)
    if isinstance(grid, Grid):
        return grid.times(interpolant if isinstance(interpolant, AffineInterpolant) else None), grid.breaks
    return [float(t) for t in grid], ()


def first_time(grid: GridLike, interpolant: Interpolant | None = None) -> float:
    """Where a grid starts."""
    return nodes(grid, interpolant)[0][0]


def working_precision(x: Tensor) -> Tensor:
    """The state in float32 at least, whatever the network computes in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _At:
    """A bound model at one step of the run: tells it where it is, and counts the stages."""

    __slots__ = ("f", "step")

    def __init__(self, f: Callable[..., Any], step: Step) -> None:
        self.f, self.step = f, step

    def __call__(self, x: Tensor, *times: float) -> Any:
        out = self.f(x, *times, step=self.step)
        self.step = dataclasses.replace(self.step, stage=self.step.stage + 1)
        return out


class Solver(Part, ABC):
    """Carries a state along a field over a grid."""

    @property
    def stochastic(self) -> bool:
        """Whether steps draw noise: such a solver has no inverse and no likelihood of its own."""
        return False

    @property
    def takes(self) -> Kind:
        """The kind of model it integrates."""
        return "field"

    def check(self, context: Context) -> None:
        """Refuse, before any call, a context that this solver cannot work in (no score, no affine path)."""

    def landmarks(self, times: list[float], every: bool) -> list[float]:
        """The times to stop at; an adaptive solver needs `every` one only to record or to project."""
        return times

    @abstractmethod
    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        """One step from r to t: the new state and what the next step needs (history, cached velocity).

        `carry` is None at the start and after a break of the grid.
        """

    @overload
    def __call__(
        self,
        f: Callable[..., Any],
        x: Tensor,
        grid: GridLike = ...,
        run: Run | None = ...,
        *,
        project: Callable[[Tensor, float], Tensor] | None = ...,
        context: Context = ...,
        record: Literal[False] = ...,
    ) -> Tensor: ...
    @overload
    def __call__(
        self,
        f: Callable[..., Any],
        x: Tensor,
        grid: GridLike = ...,
        run: Run | None = ...,
        *,
        project: Callable[[Tensor, float], Tensor] | None = ...,
        context: Context = ...,
        record: Literal[True],
    ) -> Trajectory: ...
    def __call__(
        self,
        f: Callable[..., Any],
        x: Tensor,
        grid: GridLike = 50,
        run: Run | None = None,
        *,
        project: Callable[[Tensor, float], Tensor] | None = None,
        context: Context = Context(),
        record: bool = False,
    ) -> Tensor | Trajectory:
        r"""Integrate dx = f(x, t) dt over the grid.

        Args:
            f: A field ``f(x, t)``, bound or plain.
            x: Start state (B, *shape); half precision is carried in float32.
            grid: A Grid, a number of uniform steps from 0 to 1, or the list of times.
            run: Counters and generator.
            project: ``project(x, t) -> x`` after each step.
            context: Path, source and score for the solvers that need them.
            record: Return all states and the first velocity of each step.
        """
        run = Run() if run is None else run
        f = bind(f, run)
        self.check(context)
        if self.stochastic and isinstance(grid, Grid) and not grid.for_noise:
            raise InputError(
                f"grid is {type(grid).__name__}, found for steps without noise, and {type(self).__name__} draws noise: "
                "take Euler or another solver without noise, or another grid"
            )
        times, breaks = nodes(grid, context.interpolant)
        times = self.landmarks(times, record or project is not None)
        x = working_precision(x)
        places = not isinstance(f, Bound)  # a plain callable does not ask where it is
        recorder = _Recorder(f) if record else None
        states = [x] if record else []
        carry, count = None, len(times) - 1
        for i in range(count):
            r, t = times[i], times[i + 1]
            if i in breaks:
                carry = None
            g = _At(f, Step(i, count, r, t)) if places else f
            x, carry = self.step(recorder.at(g) if recorder else g, x, r, t, carry, run, context)
            if project is not None:
                x = project(x, t)
            if record:
                states.append(x)
        if recorder is None:
            return x
        return Trajectory(torch.stack(states), torch.stack(recorder.firsts), times)


class _Recorder:
    """Keeps the first output of the model in each step."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.firsts: list[Tensor] = []
        self.fresh = True

    def at(self, g: Callable[..., Any]) -> Callable[..., Any]:
        self.f, self.fresh = g, True
        return self

    def __call__(self, x: Tensor, *times: float) -> Any:
        out = self.f(x, *times)
        if self.fresh:
            self.firsts.append(out)
            self.fresh = False
        return out
