r"""A path at one time of the grid, in Python floats: what the exponential solvers make their coefficients of.

Both ends are sums of state and velocity (:meth:`~advect.interpolants.AffineInterpolant.ends_of_velocity`, finite at
t=0 and t=1), and x_t = a_t x1 + g_t x0 with both predicted at r is the first-order step from r to t, finite there too.

Coefficients are computed once per (path, time) in float64 and kept, so a solver's step touches no schedule tensors.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants import AffineInterpolant, Interpolant


class Node(NamedTuple):
    """A path at time t: a, g, half_log_snr = log(a/g) (-inf where a=0, inf where g=0), and both ends in x and v."""

    t: float
    a: float
    g: float
    half_log_snr: float
    x1_of_x: float
    x1_of_v: float
    x0_of_x: float
    x0_of_v: float

    @property
    def inside(self) -> bool:
        """Whether the log-SNR is finite: neither pure source nor pure data."""
        return math.isfinite(self.half_log_snr)

    def x1(self, v: Tensor, x: Tensor) -> Tensor:
        """The data prediction E[x1 | x], shape of x."""
        return x.mul(self.x1_of_x).add(v, alpha=self.x1_of_v)

    def x0(self, v: Tensor, x: Tensor) -> Tensor:
        """The source prediction E[x0 | x], shape of x."""
        return x.mul(self.x0_of_x).add(v, alpha=self.x0_of_v)


@functools.lru_cache(maxsize=8192)
def node(path: AffineInterpolant, t: float) -> Node:
    """The path at time t."""
    with torch.inference_mode(False), torch.no_grad():
        time = torch.tensor(t, dtype=torch.float64, device="cpu")
        values = (path.alpha(time), path.sigma(time), path.half_log_snr(time), *path.ends_of_velocity(time))
        return Node(t, *(float(value) for value in values))


@functools.lru_cache(maxsize=8192)
def middle(path: AffineInterpolant, r: float, t: float) -> Node:
    """The node halfway between r and t in log-SNR."""
    half = 0.5 * (node(path, r).half_log_snr + node(path, t).half_log_snr)
    with torch.inference_mode(False), torch.no_grad():
        time = path.time_of_half_log_snr(torch.tensor(half, dtype=torch.float64, device="cpu"))
        return node(path, float(time))


@functools.lru_cache(maxsize=8192)
def first_order(path: AffineInterpolant, r: float, t: float, kept: float = 1.0) -> tuple[float, float]:
    """Factors (of x, of v) of a_t x1 + kept g_t x0 with x1 and x0 predicted at r."""
    here, there = node(path, r), node(path, t)
    g = kept * there.g
    return there.a * here.x1_of_x + g * here.x0_of_x, there.a * here.x1_of_v + g * here.x0_of_v


def source_share(path: Interpolant, t: float) -> float:
    """g(t) of an affine path, 1 on any other: a grid that starts at t > 0, or a path with g(0) != 1, has g(t) x0 there.

    What the state holds of the data, a(t) x1, is neglected, so such a grid starts where a(t) is small.
    """
    return node(path, t).g if isinstance(path, AffineInterpolant) else 1.0


def start_state(x0: Tensor, t: float, path: Interpolant) -> Tensor:
    """The state at the first time of a grid, g(t) x0, from a draw x0 of the source."""
    share = source_share(path, t)
    return x0 if share == 1.0 else x0 * share


def affine(path: Interpolant, solver: object) -> AffineInterpolant:
    """The path, or a sentence if it has no log-SNR.

    Raises:
        InputError: If the path is not affine in x0 and x1 alone.
    """
    if isinstance(path, AffineInterpolant):
        return path
    raise InputError(
        f"{type(solver).__name__} works on affine paths x_t = a x1 + g x0, but the path is {type(path).__name__}: "
        "take Euler, Heun, RK4 or DormandPrince"
    )
