r"""The mean part of a stochastic path: I(t) = a x1 + g x0, with I(0) = x0 and I(1) = x1.

Source: arXiv 2303.08797, section 3 (spatially linear interpolants); its code writes alpha for the share of x0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants.affine import Coefficients
from advect.interpolants.cosine import Cosine
from advect.interpolants.gammas import Gamma
from advect.parts import Part


class Spatial(Part, ABC):
    """Shares of x1 and x0 in the mean of a stochastic path."""

    @abstractmethod
    def coefficients(self, t: Tensor, gamma: Gamma) -> Coefficients:
        """a, g, a', g' at t, on a path whose latent has size gamma."""

    def check(self, gamma: Gamma) -> None:
        """Refuse a gamma this mean does not go with."""


@dataclass(frozen=True)
class Straight(Spatial):
    """I = (1 - t) x0 + t x1."""

    def coefficients(self, t: Tensor, gamma: Gamma) -> Coefficients:
        one = torch.ones_like(t)
        return Coefficients(t, 1 - t, one, -one)


@dataclass(frozen=True)
class Trigonometric(Spatial):
    r"""I = sqrt(1 - gamma^2) (cos(pi t/2) x0 + sin(pi t/2) x1): a^2 + g^2 + gamma^2 = 1.

    Keeps the variance at 1 where both ends have unit variance. Needs gamma below 1 throughout: a Brownian gamma of
    amplitude 4 or more makes the root vanish.
    """

    def check(self, gamma: Gamma) -> None:
        if gamma.peak >= 1:
            raise InputError(
                f"gamma is {gamma}, which reaches {gamma.peak:g}: the trigonometric path needs gamma below 1 "
                "(a Brownian amplitude below 4)"
            )

    def coefficients(self, t: Tensor, gamma: Gamma) -> Coefficients:
        c = Cosine().coefficients(t)
        root = torch.sqrt(1 - gamma(t) ** 2)
        d_root = -gamma.product(t) / root
        return Coefficients(root * c.a, root * c.g, root * c.da + d_root * c.a, root * c.dg + d_root * c.g)


@dataclass(frozen=True)
class EncodeDecode(Spatial):
    r"""cos^2(pi t) x0 up to t = 1/2, then cos^2(pi t) x1: x_{1/2} is the latent alone, so gamma(1/2) is above 0."""

    def check(self, gamma: Gamma) -> None:
        if gamma.peak <= 0:
            raise InputError(
                f"gamma is {gamma}: the encode-decode path is pure latent at t=1/2, so gamma has to be above 0 there"
            )

    def coefficients(self, t: Tensor, gamma: Gamma) -> Coefficients:
        # cos^2(pi t) as sin^2(pi (1/2 - t)): exactly 0 at the middle
        share = torch.sin(math.pi * (0.5 - t)) ** 2
        slope = -math.pi * torch.sin(2 * math.pi * t)
        first, zero = t <= 0.5, torch.zeros_like(t)
        return Coefficients(
            torch.where(first, zero, share),
            torch.where(first, share, zero),
            torch.where(first, zero, slope),
            torch.where(first, slope, zero),
        )


@dataclass(frozen=True)
class Mirror(Spatial):
    r"""I = x1: from data to data, x_t = x1 + gamma z; x0 plays no part.

    Its velocity b = gamma' eta = -gamma gamma' s only breathes noise in and out (the exact map from 0 to 1 is the
    identity); with noise added on the way it resamples the law of the data.
    """

    def coefficients(self, t: Tensor, gamma: Gamma) -> Coefficients:
        one, zero = torch.ones_like(t), torch.zeros_like(t)
        return Coefficients(one, zero, zero, zero)
