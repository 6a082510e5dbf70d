r"""Affine paths x_t = alpha(t) x1 + sigma(t) x0, and every conversion between predictions, in one place.

With a = alpha, g = sigma, prime = d/dt and Delta = a' g - a g':

    x1 = (g v - g' x) / Delta          x0 = (a' x - a v) / Delta
    v  = (g'/g) x + (Delta/g) x1       v  = (a'/a) x - (Delta/a) x0
    s  = -x0 / g  (source N(0, I), independent of x1)

Source: "The Principles of Diffusion Models", arXiv 2510.21890, and section 4.2 of docs/systems/principles.md.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.interpolants.base import Interpolant, Point

Prediction = Literal["v", "x1", "x0", "score"]


class Coefficients(NamedTuple):
    """a, g and their derivatives at one time."""

    a: Tensor
    g: Tensor
    da: Tensor
    dg: Tensor

    @property
    def delta(self) -> Tensor:
        """Delta = a' g - a g'."""
        return self.da * self.g - self.a * self.dg


class AffineInterpolant(Interpolant):
    """x_t = alpha(t) x1 + sigma(t) x0."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """a(t), the share of data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """g(t), the share of source."""

    @abstractmethod
    def d_alpha(self, t: Tensor) -> Tensor:
        """a'(t)."""

    @abstractmethod
    def d_sigma(self, t: Tensor) -> Tensor:
        """g'(t)."""

    @abstractmethod
    def half_log_snr(self, t: Tensor) -> Tensor:
        """lambda(t) = log(a/g), increasing; -inf where a=0, +inf where g=0."""

    @abstractmethod
    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`half_log_snr`."""

    @property
    def gaussian_variable(self) -> str | None:
        return "x0"

    def coefficients(self, t: Tensor | float) -> Coefficients:
        """a, g, a', g' at t; a number is taken in float64 on the CPU (its 0-d results scale tensors anywhere)."""
        if not isinstance(t, Tensor):
            t = torch.tensor(t, dtype=torch.float64)
        return Coefficients(self.alpha(t), self.sigma(t), self.d_alpha(t), self.d_sigma(t))

    def at(self, t: Tensor | float, x: Tensor) -> Coefficients:
        """:meth:`coefficients`, shaped to broadcast against x."""
        return self.coefficients(expand_time(t, x) if isinstance(t, Tensor) else t)

    def sample(self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Point:
        c = self.at(t, x1)
        return Point(c.a * x1 + c.g * x0, c.da * x1 + c.dg * x0)

    # Conversions. `x` is the state at time t, shape (B, *shape).

    def x1_from_v(self, v: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """x1 = (g v - g' x) / Delta; safe at both ends."""
        c = self.at(t, x)
        return (c.g * v - c.dg * x) / c.delta

    def x0_from_v(self, v: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """x0 = (a' x - a v) / Delta; safe at both ends."""
        c = self.at(t, x)
        return (c.da * x - c.a * v) / c.delta
