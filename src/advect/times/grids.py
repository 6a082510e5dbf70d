"""Grids for sampling: the nodes a solver steps through, forwards (0 to 1) or backwards."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field

import torch

from advect.errors import InputError, require
from advect.interpolants import AffineInterpolant, shift_time
from advect.times.base import Grid


def _check_steps(steps: int, least: int = 1) -> None:
    if steps < least:
        raise InputError(f"steps is {steps}: this grid has at least {least} step{'s' if least > 1 else ''}")


def _needed(interpolant: AffineInterpolant | None, grid: object) -> AffineInterpolant:
    if interpolant is None:
        raise InputError(
            f"{type(grid).__name__} is laid out on the log-SNR of an affine path: pass the interpolant, "
            "or take TimeGrid on this path"
        )
    return interpolant


def _times_at(interpolant: AffineInterpolant, half_log_snr: list[float]) -> list[float]:
    return interpolant.time_of_half_log_snr(torch.tensor(half_log_snr, dtype=torch.float64)).tolist()


def _even(start: float, end: float, steps: int) -> list[float]:
    return [start + (end - start) * i / steps for i in range(steps)] + [end]


@dataclass(frozen=True)
class TimeGrid(Grid):
    """`steps` equal steps from `start` to `end`; end < start runs backwards (data to source).

    Args:
        steps: Number of steps, at least 1.
        start: First time.
        end: Last time, another one.
    """

    steps: int = 50
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1 and self.start != self.end):
            raise InputError(f"start={self.start}, end={self.end}: a grid runs between two different times in [0, 1]")

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        return _even(self.start, self.end, self.steps)


@dataclass(frozen=True)
class LogSNRGrid(Grid):
    """Equal steps in half log-SNR from `low` to `high`.

    Args:
        steps: Number of steps in all.
        low: First half log-SNR; -4.6 is t=.01 on the straight path.
        high: Last half log-SNR.
        whole: Add t=0 before and t=1 after (one step each, out of `steps`), so that the grid spans the path.
    """

    steps: int = 50
    low: float = -4.6
    high: float = 4.6
    whole: bool = True

    def __post_init__(self) -> None:
        _check_steps(self.steps, 3 if self.whole else 1)
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"low={self.low}, high={self.high}: half log-SNRs are finite, and low is below high")

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        path = _needed(interpolant, self)
        inner = _times_at(path, _even(self.low, self.high, self.steps - 2 if self.whole else self.steps))
        return _increasing([0.0, *inner, 1.0], self) if self.whole else inner


@dataclass(frozen=True)
class EDMGrid(Grid):
    r"""s_i = (s_max^{1/rho} + i/(n-1) (s_min^{1/rho} - s_max^{1/rho}))^rho for i < n, then 0, in the clock s = g/a.

    The first time is not 0 (t = 1/81 on the straight path): start from g x0, which neglects the data's share.

    Args:
        steps: Number of steps, at least 2; 18 steps of EDMHeun make 35 calls.
        sigma_max: First s.
        sigma_min: Last s above 0.
        rho: Crowding towards the data.
        append_data: End at t=1 (g=0); without, all steps lie between sigma_max and sigma_min.

    Source: EDM, arXiv 2206.00364, eq. 5.
    """

    steps: int = 18
    sigma_max: float = 80.0
    sigma_min: float = 0.002
    rho: float = 7.0
    append_data: bool = True

    def __post_init__(self) -> None:
        _check_steps(self.steps, 2)
        if not 0 < self.sigma_min < self.sigma_max:
            raise InputError(
                f"sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: they are above 0, the first below the second"
            )
        if not self.rho > 0:
            raise InputError(f"rho is {self.rho}: the power of the grid is above 0")

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        root = 1 / self.rho
        roots = _even(self.sigma_max**root, self.sigma_min**root, self.steps - 1 if self.append_data else self.steps)
        logs = [-self.rho * math.log(value) for value in roots]
        inner = _times_at(_needed(interpolant, self), logs)
        return _increasing([*inner, 1.0], self) if self.append_data else inner


@dataclass(frozen=True)
class ShiftedGrid(Grid):
    """t = u / (u + shift (1 - u)) over equal steps in u: more steps near the source for shift > 1.

    On the straight path it moves the half log-SNR by -log(shift).

    Args:
        steps: Number of steps.
        shift: Above 0; 1 is the uniform grid, 3 is usual for images of 1024^2.

    Source: arXiv 2403.03206 (Stable Diffusion 3) section 5.3.2, with its t=1 at the noise.
    """

    steps: int = 50
    shift: float = 3.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not self.shift > 0:
            raise InputError(f"shift is {self.shift}: a time shift is above 0")

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        return [shift_time(u, self.shift) for u in _even(0.0, 1.0, self.steps)]


@dataclass(frozen=True)
class BetaGrid(Grid):
    """Quantiles of a Beta distribution at equal steps of probability: crowds towards both ends below 1.

    Args:
        steps: Number of steps.
        alpha: First shape, above 0.
        beta: Second shape, above 0.

    Source: arXiv 2407.12173 ("Beta Sampling is All You Need"), alpha = beta = 0.6.
    """

    steps: int = 50
    alpha: float = 0.6
    beta: float = 0.6

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not (self.alpha > 0 and self.beta > 0):
            raise InputError(f"alpha={self.alpha}, beta={self.beta}: the shapes of a Beta distribution are above 0")

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        special = require("scipy.special", "metrics", "BetaGrid")
        return special.betaincinv(self.alpha, self.beta, _even(0.0, 1.0, self.steps)).tolist()


@dataclass(frozen=True)
class CustomGrid(Grid):
    """The times themselves.

    Args:
        nodes: Times in [0, 1], strictly rising or strictly falling, at least two.
        restarts: Indices of inner nodes where a multistep rule starts anew.
    """

    nodes: tuple[float, ...]
    restarts: tuple[int, ...] = ()
    steps: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", len(self.nodes) - 1)
        if len(self.nodes) < 2:
            raise InputError(f"nodes is {self.nodes}: a grid has at least 2 times")
        if not all(0 <= t <= 1 for t in self.nodes):
            raise InputError(f"nodes is {self.nodes}: times lie in [0, 1]")
        _monotone(self.nodes, self)
        if not all(0 < i < len(self.nodes) - 1 for i in self.restarts):
            raise InputError(f"restarts is {self.restarts}: inner nodes are 1 to {len(self.nodes) - 2}")

    @property
    def breaks(self) -> tuple[int, ...]:
        return self.restarts

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        return list(self.nodes)

    def with_steps(self, steps: int) -> Grid:
        raise InputError(f"steps={steps}: a CustomGrid has the {self.steps} steps it was given; name another grid too")


@dataclass(frozen=True)
class Reversed(Grid):
    """Another grid, run the other way: from data to source.

    Args:
        grid: The grid.
    """

    grid: Grid
    steps: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", self.grid.steps)

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        return self.grid.times(interpolant)[::-1]

    @property
    def breaks(self) -> tuple[int, ...]:
        return tuple(sorted(self.steps - i for i in self.grid.breaks))

    def with_steps(self, steps: int) -> Grid:
        return dataclasses.replace(self, grid=self.grid.with_steps(steps))


def _monotone(times: tuple[float, ...] | list[float], grid: object) -> None:
    rising = [b - a for a, b in itertools.pairwise(times)]
    if not (all(d > 0 for d in rising) or all(d < 0 for d in rising)):
        raise InputError(f"{type(grid).__name__}: the times {list(times)} neither rise nor fall all the way")


def _increasing(times: list[float], grid: object) -> list[float]:
    """Refuse ends that leave no room for t=0 or t=1, as on a path whose noise does not vanish at t=1."""
    if not times[-2] < 1.0 or not times[1] > times[0]:
        raise InputError(
            f"{grid} runs from t={times[1]:g} to t={times[-2]:g} on this path, so t=0 and t=1 cannot be added: "
            "leave the ends out, or narrow the range"
        )
    return times
