r"""A path at one time of the grid, in Python floats: what the exponential solvers make their coefficients of.

Every prediction is linear in state and velocity, with a = alpha, g = sigma, prime = d/dt, Delta = a' g - a g':

    x1 = (g v - g' x) / Delta,    x0 = (a' x - a v) / Delta,
    x_t = a_t x1 + g_t x0         (first-order step from r to t, finite for a_r = 0, g_r = 0, a_t = 0 and g_t = 0)

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
    """A path at time t: a, g, their derivatives and half_log_snr = log(a/g) (-inf where a=0, inf where g=0)."""

    t: float
    a: float
    g: float
    da: float
    dg: float
    half_log_snr: float

    @property
    def delta(self) -> float:
        """Delta = a' g - a g'."""
        return self.da * self.g - self.a * self.dg

    @property
    def inside(self) -> bool:
        """Whether the log-SNR is finite: neither pure source nor pure data."""
        return math.isfinite(self.half_log_snr)

    def x1(self, v: Tensor, x: Tensor) -> Tensor:
        """The data prediction E[x1 | x], shape of x."""
        delta = self.delta
        return torch.mul(x, -self.dg / delta).add(v, alpha=self.g / delta)

    def x0(self, v: Tensor, x: Tensor) -> Tensor:
        """The source prediction E[x0 | x], shape of x."""
        delta = self.delta
        return torch.mul(x, self.da / delta).add(v, alpha=-self.a / delta)


@functools.lru_cache(maxsize=8192)
def node(path: AffineInterpolant, t: float) -> Node:
    """The path at time t."""
    time = torch.tensor(t, dtype=torch.float64, device="cpu")
    values = (path.alpha(time), path.sigma(time), path.d_alpha(time), path.d_sigma(time), path.half_log_snr(time))
    return Node(t, *(float(value) for value in values))


@functools.lru_cache(maxsize=8192)
def middle(path: AffineInterpolant, r: float, t: float) -> Node:
    """The node halfway between r and t in log-SNR."""
    half = 0.5 * (node(path, r).half_log_snr + node(path, t).half_log_snr)
    return node(path, float(path.time_of_half_log_snr(torch.tensor(half, dtype=torch.float64, device="cpu"))))


@functools.lru_cache(maxsize=8192)
def first_order(path: AffineInterpolant, r: float, t: float) -> tuple[float, float]:
    """Factors (of x, of v) of the first-order step x_t = a_t x1 + g_t x0 with x1 and x0 predicted at r."""
    here, there = node(path, r), node(path, t)
    delta = here.delta
    return (there.g * here.da - there.a * here.dg) / delta, (there.a * here.g - there.g * here.a) / delta


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
