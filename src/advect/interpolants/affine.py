r"""Affine paths x_t = alpha(t) x1 + sigma(t) x0: the schedule, and conversion between all predictions.

With a = alpha, g = sigma, prime = d/dt and Delta = a' g - a g' (above 0 inside (0, 1)):

    x1 = (g v - g' x) / Delta          x0 = (a' x - a v) / Delta          v = a' x1 + g' x0

The full table of predictions stands in :mod:`advect.interpolants.conversions`.

Source: "The Principles of Diffusion Models", arXiv 2510.21890.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.interpolants import conversions
from advect.interpolants.base import Interpolant, Point
from advect.interpolants.conversions import HasGaussian, Kind

Number = Tensor | float


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


class Pair(NamedTuple):
    """The two ends of a path, both of the state's shape."""

    x0: Tensor
    x1: Tensor


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
        """g'(t); -inf at t=1 on paths whose g falls like a square root there."""

    @abstractmethod
    def half_log_snr(self, t: Tensor) -> Tensor:
        """lambda(t) = log(a/g), increasing; -inf where a=0, +inf where g=0."""

    @abstractmethod
    def time_of_half_log_snr(self, half_log_snr: Tensor) -> Tensor:
        """The inverse of :meth:`half_log_snr`."""

    def sigma_d_sigma(self, t: Tensor) -> Tensor:
        """The product g g', finite everywhere even where g' is not."""
        return self.sigma(t) * self.d_sigma(t)

    def ends_of_velocity(self, t: Tensor) -> tuple[Number, Number, Number, Number]:
        """(-g'/Delta, g/Delta, a'/Delta, -a/Delta): x1 and x0 as sums of x and v.

        A path whose Delta is 0 or infinite at an end gives these ratios in closed form.
        """
        c = self.coefficients(t)
        delta = c.delta
        return -c.dg / delta, c.g / delta, c.da / delta, -c.a / delta

    @property
    def gaussian_variable(self) -> str | None:
        return "x0"

    def coefficients(self, t: Tensor | float) -> Coefficients:
        """a, g, a', g' at t; a number is taken in float64 on the CPU (its 0-d results scale tensors anywhere)."""
        return self._coefficients(t) if isinstance(t, Tensor) else _coefficients_at(self, t)

    def _coefficients(self, t: Tensor) -> Coefficients:
        # paths whose four numbers share work take a shorter way
        return Coefficients(self.alpha(t), self.sigma(t), self.d_alpha(t), self.d_sigma(t))

    def at(self, t: Tensor | float, x: Tensor) -> Coefficients:
        """:meth:`coefficients`, shaped to broadcast against x."""
        return self.coefficients(expand_time(t, x) if isinstance(t, Tensor) else t)

    def sample(self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Point:
        c = self.at(t, x1)
        return Point(c.a * x1 + c.g * x0, c.da * x1 + c.dg * x0)

    def x1_from_v(self, v: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """x1 = (g v - g' x) / Delta; safe at both ends."""
        return self.convert(v, x, t, "v", "x1")

    def x0_from_v(self, v: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
        """x0 = (a' x - a v) / Delta; safe at both ends."""
        return self.convert(v, x, t, "v", "x0")

    def convert(
        self,
        value: Tensor,
        x: Tensor,
        t: Tensor | float,
        have: Kind,
        want: Kind,
        source: HasGaussian | None = None,
        *,
        data_std: float = 0.5,
    ) -> Tensor:
        """Turn one prediction at (x, t) into another, without a round trip through v.

        Args:
            value: The prediction of kind `have`, shape of x.
            x: State at time t, shape (B, *shape).
            t: Time, a number or a tensor whose shape is a leading part of x's.
            have: Kind of `value`; see :data:`advect.interpolants.Kind`.
            want: Kind of the result.
            source: The source, where the score or "epsilon" needs its mean and spread; None for N(0, I).
            data_std: The data's standard deviation in the "F" of EDM.

        Returns:
            The prediction of kind `want`, shape of x. It is infinite where the algebra has no answer: x0 or the score
            from x1 at g=0, x1 from x0 or the score at a=0. Predictions "v", "F", "trigflow" are safe at both ends.

        Raises:
            InputError: If a kind is unknown, or the score is asked of a source that is not Gaussian.
        """
        if have == want:
            return value
        mean, std = (0.0, 1.0) if source is None else conversions.moments(source, have, want)
        if not isinstance(t, Tensor):
            return conversions.combine(value, x, *_numbers_at(self, t, have, want, mean, std, data_std))
        t = expand_time(t, x)
        return conversions.combine(value, x, *conversions.weights(self, t, have, want, mean, std, data_std))

    def pair(
        self,
        value: Tensor,
        x: Tensor,
        t: Tensor | float,
        have: Kind,
        source: HasGaussian | None = None,
        *,
        data_std: float = 0.5,
    ) -> Pair:
        """Both ends (x0, x1) that a prediction of kind `have` at (x, t) stands for; arguments as :meth:`convert`."""
        return Pair(
            self.convert(value, x, t, have, "x0", source, data_std=data_std),
            self.convert(value, x, t, have, "x1", source, data_std=data_std),
        )

    def of_pair(
        self,
        x0: Tensor,
        x1: Tensor,
        t: Tensor | float,
        want: Kind,
        source: HasGaussian | None = None,
        *,
        data_std: float = 0.5,
    ) -> Tensor:
        """What a network of kind `want` is to say about a known pair: the regression target; see :meth:`convert`."""
        if want == "x0":
            return x0
        if want in ("x1", "sample"):
            return x1
        mean, std = (0.0, 1.0) if source is None else conversions.moments(source, want)
        time = expand_time(t, x1)
        return conversions.of_pair(self, x0, x1, time, want, mean, std, data_std)


@functools.lru_cache(maxsize=4096)
def _coefficients_at(path: AffineInterpolant, t: float) -> Coefficients:
    # kept across calls, so they must be usable under autograd even if first asked for in inference mode
    with torch.inference_mode(False):
        return path.coefficients(torch.tensor(t, dtype=torch.float64, device="cpu"))


@functools.lru_cache(maxsize=16384)
def _numbers_at(
    path: AffineInterpolant, t: float, have: Kind, want: Kind, mean: float, std: float, data_std: float
) -> tuple[float, float, float]:
    time = torch.tensor(t, dtype=torch.float64, device="cpu")
    on_x, on_value, constant = conversions.weights(path, time, have, want, mean, std, data_std)
    return float(on_x), float(on_value), float(constant)
