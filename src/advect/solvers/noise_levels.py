r"""How much noise an SDE adds: e(t) >= 0 in dx = (v + e s) dt + sqrt(2 e) dW, chosen after training.

Every level gives the same marginals when v and s are exact; it decides how fast errors are forgotten. Near g=0 the
score grows like 1/g, so a level also answers e/g, where there is a closed form.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from advect.errors import InputError
from advect.interpolants import AffineInterpolant, Interpolant
from advect.parts import Part
from advect.solvers.nodes import Node, affine, node


class NoiseLevel(Part, ABC):
    """The seat "how much noise": e(t)."""

    @abstractmethod
    def level(self, t: float, path: Interpolant) -> float:
        """e(t), at least 0."""

    def over_sigma(self, t: float, path: AffineInterpolant) -> float:
        """e(t) / g(t), what multiplies the source prediction in the drift.

        Raises:
            InputError: If it has no finite value at t.
        """
        e, g = self.level(t, path), node(path, t).g
        if e == 0.0:
            return 0.0
        if g == 0.0:
            raise InputError(
                f"{self} at t={t:g}: the score has no limit where the source's share is 0: end the grid before, "
                "or take SourceNoise, which vanishes there"
            )
        return e / g


def _refuse_negative(name: str, value: float, what: str) -> None:
    if not (value >= 0 and math.isfinite(value)):
        raise InputError(f"{name} is {value}: {what} is a finite number, at least 0")


@dataclass(frozen=True)
class ConstantNoise(NoiseLevel):
    """e(t) = value. The only level, beside SinSquaredNoise, for two-sided paths, whose score is finite at both ends.

    Args:
        value: The level, at least 0.
    """

    value: float = 0.5

    def __post_init__(self) -> None:
        _refuse_negative("value", self.value, "a noise level")

    def level(self, t: float, path: Interpolant) -> float:
        return self.value


@dataclass(frozen=True)
class SinSquaredNoise(NoiseLevel):
    """e(t) = scale sin^2(pi t): none at the ends.

    Args:
        scale: The level at t=1/2, at least 0.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _refuse_negative("scale", self.scale, "a noise level")

    def level(self, t: float, path: Interpolant) -> float:
        return self.scale * math.sin(math.pi * min(t, 1 - t)) ** 2  # min: exactly 0 at t=1 too

    def over_sigma(self, t: float, path: AffineInterpolant) -> float:
        return 0.0 if t == 1.0 else super().over_sigma(t, path)  # sin^2 falls faster than g on every shipped path


@dataclass(frozen=True)
class SourceNoise(NoiseLevel):
    """e(t) = scale g(t)^power: bounded on [0, 1], also times the score for power >= 1.

    The rectified-flow SDE with dW factor q(t) = c (1 - t) is scale = c^2/2, power = 2 on the straight path.

    Args:
        scale: Factor, at least 0.
        power: Power of g, at least 1.

    Source: SiT, arXiv 2401.08740, section 3.3 (its menu of diffusion coefficients).
    """

    scale: float = 1.0
    power: float = 1.0

    def __post_init__(self) -> None:
        _refuse_negative("scale", self.scale, "the factor of a noise level")
        if not self.power >= 1:
            raise InputError(f"power is {self.power}: below 1 the drift has no limit at t=1, so give 1 or more")

    def level(self, t: float, path: Interpolant) -> float:
        return self.scale * node(affine(path, self), t).g ** self.power

    def over_sigma(self, t: float, path: AffineInterpolant) -> float:
        return self.scale * node(path, t).g ** (self.power - 1)


@dataclass(frozen=True)
class ReverseNoise(NoiseLevel):
    """e(t) = scale g Delta / a, with scale = 1 the reverse-time SDE of diffusion models; diverges where a=0.

    Args:
        scale: Factor, at least 0.

    Source: arXiv 2011.13456 eq. 6; arXiv 2510.21890.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _refuse_negative("scale", self.scale, "the factor of a noise level")

    def level(self, t: float, path: Interpolant) -> float:
        n = node(affine(path, self), t)
        return n.g * self._rate(n)

    def over_sigma(self, t: float, path: AffineInterpolant) -> float:
        return self._rate(node(path, t))

    def _rate(self, n: Node) -> float:
        """scale Delta / a; x0 holds v by the factor -a/Delta."""
        if self.scale == 0.0:
            return 0.0
        if n.x0_of_v == 0.0:
            raise InputError(
                f"{self} diverges at t={n.t:g}, an end of the path: start the grid later or end it earlier, or take "
                "SourceNoise"
            )
        return -self.scale / n.x0_of_v
