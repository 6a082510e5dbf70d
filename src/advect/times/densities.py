r"""Time densities for training. Convention: t=0 source, t=1 data.

SD3 (arXiv 2403.03206) and EDM (arXiv 2206.00364) put the noise at t=1; their formulas are turned round here. With
U uniform on [0, 1) and Z standard normal:

    logit-normal   t = 1 / (1 + exp(-(m + s Z)))
    mode           t = U + c (cos^2(pi U / 2) - 1 + U)
    cosmap         t = sin(pi U / 2) / (sin(pi U / 2) + cos(pi U / 2))
    u-shaped       t = -log(1 - U (1 - e^-a)) / a, or 1 minus that, each half of the time
    EDM            log(g/a) ~ N(m, s^2) on the given path
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants import AffineInterpolant, Linear, shift_time
from advect.randomness import rand, randn
from advect.times.base import TimeDensity


class _OfUniform(TimeDensity):
    """A density whose times are a function of one uniform number."""

    @abstractmethod
    def transform(self, u: Tensor) -> Tensor:
        """The time of each u in [0, 1)."""

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        return self.transform(rand((n,), generator, dtype=dtype, device=device))


class _OfNormal(TimeDensity):
    """A density whose times are a function of one normal number."""

    @abstractmethod
    def transform(self, z: Tensor) -> Tensor:
        """The time of each z."""

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        return self.transform(randn((n,), generator, dtype=dtype, device=device))


@dataclass(frozen=True)
class Uniform(_OfUniform):
    """t = start + (end - start) U.

    Args:
        start: Smallest time, in [0, 1).
        end: Largest time, in (start, 1].
    """

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < self.end <= 1.0:
            raise InputError(f"start={self.start}, end={self.end}: a uniform time density needs 0 <= start < end <= 1")

    def transform(self, u: Tensor) -> Tensor:
        return u if self.start == 0.0 and self.end == 1.0 else self.start + (self.end - self.start) * u


@dataclass(frozen=True)
class LogitNormal(_OfNormal):
    r"""logit(t) ~ N(mean, std^2): most times in the middle.

    Args:
        mean: m, in logits; above 0 is nearer to data. SD3's text has noise at t=1, so its m has the other sign; the u
            of diffusers' training scripts indexes descending timesteps, so there m has our sign.
        std: s, above 0.

    Source: arXiv 2403.03206, section 3.1 (m=0, s=1).
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise InputError(f"std is {self.std}: the standard deviation of a logit-normal density is above 0")

    def transform(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * z)


@dataclass(frozen=True)
class Mode(_OfUniform):
    r"""SD3's density with heavy tails around its mode at 1/2.

    Args:
        scale: c, from -1 (more at both ends) over 0 (uniform) to 2/(pi - 2) = 1.75 (more in the middle).

    Source: arXiv 2403.03206, equation 20; c = 1.29 in its ablation.
    """

    scale: float = 1.29

    def __post_init__(self) -> None:
        if not -1 <= self.scale <= 2 / (math.pi - 2):
            raise InputError(f"scale is {self.scale}: the mode density is one for scales from -1 to 2/(pi-2) = 1.75")

    def transform(self, u: Tensor) -> Tensor:
        # cos^2(pi u / 2) - 1 = -sin^2(pi u / 2): exact at both ends
        return u + self.scale * (u - torch.sin(0.5 * math.pi * u).square())


@dataclass(frozen=True)
class CosMap(_OfUniform):
    r"""The times at which the straight path has the log-SNR of a uniformly timed cosine path: 2/(pi (t^2 + (1-t)^2)).

    :class:`~advect.objectives.CosMapWeight` is the same density as a weight.

    Source: arXiv 2403.03206, section 3.1.
    """

    def transform(self, u: Tensor) -> Tensor:
        sine = torch.sin(0.5 * math.pi * u)
        return sine / (sine + torch.cos(0.5 * math.pi * u))


@dataclass(frozen=True)
class UShaped(_OfUniform):
    r"""Density proportional to e^(-a t) + e^(-a (1-t)): more at both ends, for reflow.

    Args:
        a: Steepness, above 0.

    Source: arXiv 2405.20320 (RF++), section 4.1, with a = 4.
    """

    a: float = 4.0

    def __post_init__(self) -> None:
        if not self.a > 0:
            raise InputError(f"a is {self.a}: the steepness of a u-shaped density is above 0 (or use Uniform())")

    def transform(self, u: Tensor) -> Tensor:
        left = u < 0.5  # one number says which side, and where there
        t = torch.log1p((2 * u - (~left).to(u.dtype)) * math.expm1(-self.a)) / -self.a
        return torch.where(left, t, 1 - t)


@dataclass(frozen=True)
class FiniteSet(_OfUniform):
    """One of a few times, each as likely: those a k-step sampler calls, ``FiniteSet(tuple(i / k for i in range(k)))``.

    Args:
        times: The times, each in [0, 1], given as they are (also the ends).
    """

    times: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        if not self.times or not all(0 <= t <= 1 for t in self.times):
            raise InputError(f"times is {self.times}: a finite set has at least one time, each in [0, 1]")

    def transform(self, u: Tensor) -> Tensor:
        return _on_device(self.times, u.dtype, u.device)[(u * len(self.times)).long()]


@dataclass(frozen=True)
class ShiftedTimes(TimeDensity):
    """t / (t + shift (1 - t)) of the times of another density: more training near the source for shift > 1.

    The training that belongs to a :class:`ShiftedGrid`. With the shift c it shows a network the noise levels that a
    source scaled by c would show it, without scaling the source.

    Args:
        density: The density whose times are shifted.
        shift: Above 0; 1 changes nothing.

    Source: arXiv 2403.03206 (Stable Diffusion 3) section 5.3.2, with its t=1 at the noise.
    """

    density: TimeDensity = Uniform()
    shift: float = 3.0

    def __post_init__(self) -> None:
        if not self.shift > 0:
            raise InputError(f"shift is {self.shift}: a time shift is above 0")

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        return shift_time(self.density.sample(n, generator, dtype=dtype, device=device), self.shift)


@dataclass(frozen=True)
class EDMLogNormal(_OfNormal):
    r"""log(g/a) ~ N(mean, std^2): EDM's noise levels, at the times the path reaches them.

    Args:
        mean: P_mean, of the logarithm of the noise level; the levels are in units of data of spread 0.5.
        std: P_std, above 0.
        interpolant: The path that is trained on.

    Source: arXiv 2206.00364, table 1.
    """

    mean: float = -1.2
    std: float = 1.2
    interpolant: AffineInterpolant = Linear()

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise InputError(f"std is {self.std}: the standard deviation of log noise levels is above 0")

    def transform(self, z: Tensor) -> Tensor:
        return self.interpolant.time_of_half_log_snr(-self.mean - self.std * z)


@functools.lru_cache(maxsize=64)
def _on_device(times: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(times, dtype=dtype, device=device)
