r"""Supervising processes of transition matching: the joint law of a few states, and what a transition draws.

A chain runs over times 0 = t_0 < ... < t_T = 1 from the source x0 to the data x1. Its marginals are those of the
straight path, (1 - t) x0 + t x1; processes differ in how the noise of two times hangs together. A kernel is trained to
draw a variable y given the state x_k, and the next state is a function of both.

Source: "Transition Matching", arXiv 2506.23589, sections 2 and 3.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.errors import InputError
from advect.interpolants.base import Interpolant, Point
from advect.interpolants.linear import Linear
from advect.randomness import randn_like

Draws = Literal["difference", "next"]


class ChainPair(NamedTuple):
    """A state x of the chain and what is to be drawn given it, y; both of the data's shape."""

    x: Tensor
    y: Tensor


class ChainProcess(Interpolant):
    """The joint law of the states of a chain given its ends; as an interpolant it gives the marginals.

    `times` are the only times at which the chain can be trained and run; None allows any.
    `draws` is what y is: the "difference" x1 - x0, or the "next" state.
    """

    times: tuple[float, ...] | None
    draws: Draws

    def sample(self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Point:
        return Point(torch.lerp(x0, x1, expand_time(t, x1)), x1 - x0)

    @abstractmethod
    def states(
        self, x0: Tensor, x1: Tensor, times: Sequence[Tensor | float], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """The states at several times, drawn jointly, each of the shape of x1.

        Args:
            x0: Draws of the source (B, *shape).
            x1: Data (B, *shape).
            times: Rising times, each a number or of shape (B,).
            generator: Feeds every draw.
        """

    def pair(
        self,
        x0: Tensor,
        x1: Tensor,
        r: Tensor | float,
        t: Tensor | float | None = None,
        generator: torch.Generator | None = None,
    ) -> ChainPair:
        """The state at r, and what a transition from r to t draws.

        Args:
            x0: Draws of the source (B, *shape).
            x1: Data (B, *shape).
            r: Time of the state, a number or (B,).
            t: Time of the next state; a process that draws the difference does not read it.
            generator: Feeds every draw.
        """
        if self.draws == "difference":
            return ChainPair(self.states(x0, x1, [r], generator)[0], x1 - x0)
        if t is None:
            raise InputError("t is None: a chain that draws the next state is told the time of that state")
        return ChainPair(*self.states(x0, x1, [r, t], generator))

    def step(self, x: Tensor, y: Tensor, r: float, t: float) -> Tensor:
        """The next state: x + (t - r) y of a difference, y itself of a next state.

        Raises:
            InputError: If the chain has no transition from r to t.
        """
        self.check(r, t)
        return y if self.draws == "next" else x.add(y, alpha=t - r)

    def check(self, r: float, t: float) -> None:
        """Refuse a transition that was not trained."""
        if self.times is not None and (r, t) not in itertools.pairwise(self.times):
            raise InputError(
                f"the grid has a step from t={r:g} to t={t:g}, but the chain was trained at {list(self.times)} alone: "
                f"take CustomGrid({list(self.times)})"
            )


@dataclass(frozen=True)
class LinearChain(ChainProcess):
    r"""x_k = (1 - t_k) x0 + t_k x1 with one x0 for all times: states lie on a straight line.

    Autoregressive kernels that draw the next state token by token fail on it: the first tokens of the next state and
    the current one give the line away, and samples leave the line. Take :class:`IndependentChain` for those.

    Args:
        times: The times of the chain from 0 to 1; None for any, which the difference allows.
        draws: "difference" for y = x1 - x0 (DTM), or "next" for y = x_{k+1}.

    Source: arXiv 2506.23589 section 3.1.
    """

    times: tuple[float, ...] | None = None
    draws: Draws = "difference"

    def __post_init__(self) -> None:
        _check_times(self.times)
        if self.draws not in ("difference", "next"):
            raise InputError(f"draws is {self.draws!r}: choose 'difference' or 'next'")
        if self.draws == "next" and self.times is None:
            raise InputError("draws is 'next' and times is None: the next state needs the times of the chain")

    def states(
        self, x0: Tensor, x1: Tensor, times: Sequence[Tensor | float], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        return [torch.lerp(x0, x1, expand_time(t, x1)) for t in times]


@dataclass(frozen=True)
class IndependentChain(ChainProcess):
    r"""x_k = (1 - t_k) x_{0,k} + t_k x1 with noise x_{0,k} ~ N(0, I) drawn anew for every k; y is the next state.

    Its marginals are those of :class:`LinearChain`, but given x1 the states are independent. At t=0 the state is x0.

    Args:
        times: The times of the chain from 0 to 1; (0, .5, .75, 1) is the paper's "exponential" grid of three steps.

    Source: arXiv 2506.23589 section 3.2.
    """

    times: tuple[float, ...] = (0.0, 0.5, 0.75, 1.0)  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        _check_times(self.times)

    @property
    def draws(self) -> Draws:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Always the next state."""
        return "next"

    def states(
        self, x0: Tensor, x1: Tensor, times: Sequence[Tensor | float], generator: torch.Generator | None = None
    ) -> list[Tensor]:
        out = []
        for t in times:
            t = expand_time(t, x1)
            fresh = randn_like(x1, generator)
            out.append(torch.lerp(torch.where(t == 0, x0, fresh), x1, t))
        return out


def as_chain(path: Interpolant) -> ChainProcess:
    """The process itself; the straight path is the chain of differences at any times.

    Raises:
        InputError: If the path is no chain.
    """
    if isinstance(path, ChainProcess):
        return path
    if isinstance(path, Linear):
        return LinearChain()
    raise InputError(
        f"the path is {type(path).__name__}, which is no chain of transitions: take LinearChain or IndependentChain"
    )


def _check_times(times: tuple[float, ...] | None) -> None:
    if times is None:
        return
    if len(times) < 2 or times[0] != 0 or times[-1] != 1 or any(a >= b for a, b in itertools.pairwise(times)):
        raise InputError(f"times is {times}: the times of a chain rise from 0 to 1, like (0, 0.5, 0.75, 1)")
