r"""Weights of the loss as functions of time.

A weight multiplies the loss in one space (of x1, of the network F of EDM, ...): the same formula in another space is
another loss, because at one (x, t)

    |dv|^2 = (Delta/g)^2 |dx1|^2 = (Delta/a)^2 |dx0|^2,   Delta = a' g - a g'.

So each weight names the space its paper writes it for, and the objective compares there.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from advect.errors import InputError
from advect.interpolants import AffineInterpolant, Kind
from advect.parts import Part


class TimeWeight(Part, ABC):
    """w(t) in L = E w(t) |prediction - target|^2.

    `space` is the kind of prediction it is written for; None for whatever the objective compares.
    """

    space: ClassVar[Kind | None] = None

    @abstractmethod
    def __call__(self, t: Tensor, interpolant: AffineInterpolant) -> Tensor:
        """The weight of each time, shape of t."""


@dataclass(frozen=True)
class CosMapWeight(TimeWeight):
    r"""w = 2 / (pi (t^2 + (1-t)^2)), mean 1 over uniform t: as if times were drawn from :class:`~advect.times.CosMap`.

    Source: arXiv 2403.03206, section 3.1 (on the velocity of the straight path).
    """

    space: ClassVar[Kind | None] = "v"

    def __call__(self, t: Tensor, interpolant: AffineInterpolant) -> Tensor:
        return 2 / (math.pi * (t.square() + (1 - t).square()))


@dataclass(frozen=True)
class EDMWeight(TimeWeight):
    r"""w = (sg^2 + sd^2) / (sg sd)^2 on x1, sg = g/a: the plain loss on the network F of EDM. Infinite at g=0.

    Args:
        data_std: sd, standard deviation of the data, above 0.

    Source: arXiv 2206.00364, table 1.
    """

    data_std: float = 0.5
    space: ClassVar[Kind | None] = "x1"

    def __post_init__(self) -> None:
        if not self.data_std > 0:
            raise InputError(f"data_std is {self.data_std}: the standard deviation of the data is above 0")

    def __call__(self, t: Tensor, interpolant: AffineInterpolant) -> Tensor:
        return interpolant.half_log_snr(t).mul(2).exp() + self.data_std**-2


@dataclass(frozen=True)
class MinSNR(TimeWeight):
    r"""w = min(a^2/g^2, gamma) on x1: the loss on the noise, held down near the data.

    Args:
        gamma: The largest weight, above 0.

    Source: arXiv 2303.09556, section 3.4; on the noise the same weight reads min(SNR, gamma)/SNR.
    """

    gamma: float = 5.0
    space: ClassVar[Kind | None] = "x1"

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise InputError(f"gamma is {self.gamma}: the largest weight is above 0")

    def __call__(self, t: Tensor, interpolant: AffineInterpolant) -> Tensor:
        return interpolant.half_log_snr(t).mul(2).exp().clamp(max=self.gamma)
