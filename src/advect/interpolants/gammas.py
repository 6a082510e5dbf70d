r"""How much latent noise a stochastic path carries: gamma(t), with gamma(0) = gamma(1) = 0.

Formulas near the ends want the product gamma gamma', which is finite where gamma' is not (Brownian: gamma' is infinite
at both ends, the product is A (1 - 2t) / 2). So the product is a method of its own.

Source: arXiv 2303.08797, section 3.4 and table 8.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import Part


class Gamma(Part, ABC):
    """The size of the latent z on a stochastic path."""

    @abstractmethod
    def __call__(self, t: Tensor) -> Tensor:
        """gamma(t), exactly 0 at both ends."""

    @abstractmethod
    def derivative(self, t: Tensor) -> Tensor:
        """gamma'(t)."""

    @abstractmethod
    def product(self, t: Tensor) -> Tensor:
        """gamma gamma', half the derivative of gamma^2; finite everywhere."""

    @property
    @abstractmethod
    def peak(self) -> float:
        """The largest gamma, at t = 1/2."""


@dataclass(frozen=True)
class Brownian(Gamma):
    r"""gamma = sqrt(A t (1 - t)), that of a Brownian bridge; gamma gamma' = A (1 - 2t) / 2.

    Args:
        amplitude: A, above 0, in squared units of the data.
    """

    amplitude: float = 1.0

    def __post_init__(self) -> None:
        if not self.amplitude > 0:
            raise InputError(f"amplitude is {self.amplitude}: that of a Brownian gamma is above 0 (or use Zero())")

    def __call__(self, t: Tensor) -> Tensor:
        return torch.sqrt(self.amplitude * t * (1 - t))

    def derivative(self, t: Tensor) -> Tensor:
        return self.product(t) / self(t)

    def product(self, t: Tensor) -> Tensor:
        return self.amplitude * (0.5 - t)

    @property
    def peak(self) -> float:
        return 0.5 * math.sqrt(self.amplitude)


@dataclass(frozen=True)
class Quadratic(Gamma):
    """gamma = t (1 - t)."""

    def __call__(self, t: Tensor) -> Tensor:
        return t * (1 - t)

    def derivative(self, t: Tensor) -> Tensor:
        return 1 - 2 * t

    def product(self, t: Tensor) -> Tensor:
        return self(t) * self.derivative(t)

    @property
    def peak(self) -> float:
        return 0.25


@dataclass(frozen=True)
class SinSquared(Gamma):
    """gamma = sin^2(pi t)."""

    def __call__(self, t: Tensor) -> Tensor:
        # the smaller of t and 1-t has the same sine, and gives an exact 0 at t=1
        return torch.sin(math.pi * torch.minimum(t, 1 - t)) ** 2

    def derivative(self, t: Tensor) -> Tensor:
        return math.pi * torch.sin(2 * math.pi * t)

    def product(self, t: Tensor) -> Tensor:
        return self(t) * self.derivative(t)

    @property
    def peak(self) -> float:
        return 1.0


@dataclass(frozen=True)
class SigmoidBump(Gamma):
    r"""gamma = S(u + 1) - S(u - 1) less its value at the ends, u = f (t - 1/2), S the logistic function.

    As S(u+1) - S(u-1) = sinh 1 / (cosh u + cosh 1), above the line of the difference stands
    cosh(f/2) - cosh(u) = 2 sinh(f t/2) sinh(f (1-t)/2), which is exactly 0 at both ends.

    Args:
        steepness: f, above 0.
    """

    steepness: float = 10.0

    def __post_init__(self) -> None:
        if not self.steepness > 0:
            raise InputError(f"steepness is {self.steepness}: that of a sigmoid bump is above 0")

    @property
    def _floor(self) -> float:
        return math.sinh(1) / (math.cosh(self.steepness / 2) + math.cosh(1))

    def __call__(self, t: Tensor) -> Tensor:
        u = self.steepness * (t - 0.5)
        low, high = 0.5 * self.steepness * t, 0.5 * self.steepness * (1 - t)
        return 2 * self._floor * torch.sinh(low) * torch.sinh(high) / (torch.cosh(u) + math.cosh(1))

    def derivative(self, t: Tensor) -> Tensor:
        u = self.steepness * (t - 0.5)
        return -math.sinh(1) * self.steepness * torch.sinh(u) / (torch.cosh(u) + math.cosh(1)) ** 2

    def product(self, t: Tensor) -> Tensor:
        return self(t) * self.derivative(t)

    @property
    def peak(self) -> float:
        return math.sinh(1) / (1 + math.cosh(1)) - self._floor


@dataclass(frozen=True)
class Zero(Gamma):
    """No latent: the path is a plain curve between its ends, and has no score."""

    def __call__(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def derivative(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def product(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    @property
    def peak(self) -> float:
        return 0.0
