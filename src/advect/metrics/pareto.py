r"""Fronts of two figures that pull against each other, and their comparison at equal quality.

Of each method many settings are measured: a quality (higher is better, such as class accuracy) and a cost (lower is
better, such as a distance). A single best point says little: a method looks good wherever its settings happened to be
looked at. A front keeps the settings that no other of the method beats in both, and two methods are compared at the
same quality, where both have settings on either side.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from advect.errors import InputError


class Point(NamedTuple):
    """One setting, measured: `quality` (higher is better), `cost` (lower is better), and what it is called."""

    quality: float
    cost: float
    name: str = ""


@dataclass(frozen=True)
class Front:
    """The settings of one method that no other of its settings beats in both figures.

    Attributes:
        points: By rising quality, and so by rising cost.
    """

    points: tuple[Point, ...]

    @property
    def low(self) -> float:
        """The lowest quality on it."""
        return self.points[0].quality

    @property
    def high(self) -> float:
        """The highest quality on it."""
        return self.points[-1].quality

    def cost_at(self, quality: float) -> float:
        """The cost at a quality, on straight lines between neighbouring points; NaN outside of the front."""
        if not self.low <= quality <= self.high:
            return math.nan
        i = bisect.bisect_left([p.quality for p in self.points], quality)
        right = self.points[i]
        if right.quality == quality:
            return right.cost
        left = self.points[i - 1]
        share = (quality - left.quality) / (right.quality - left.quality)
        return left.cost + share * (right.cost - left.cost)

    def nearest(self, quality: float) -> Point:
        """The point whose quality is nearest to the one asked for."""
        return min(self.points, key=lambda p: abs(p.quality - quality))


def pareto_front(points: Sequence[Point]) -> Front:
    """The front of some settings: each beats all of higher quality in cost, and ties keep one.

    Raises:
        InputError: If there are no settings, or a figure is not finite.
    """
    if not points:
        raise InputError("points is empty: a front needs at least one setting")
    for point in points:
        if not (math.isfinite(point.quality) and math.isfinite(point.cost)):
            raise InputError(
                f"the setting {point.name!r} has quality {point.quality} and cost {point.cost}: leave it out"
            )
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (-p.quality, p.cost)):  # from the highest quality down
        if not kept or point.cost < kept[-1].cost:
            kept.append(point)
    return Front(tuple(reversed(kept)))


@dataclass(frozen=True)
class FrontComparison:
    """Two fronts over the qualities that both span.

    Attributes:
        low: Where the common range begins; NaN if there is none.
        high: Where it ends.
        ours: Mean cost of the first front over that range; NaN if there is none.
        other: Mean cost of the second.
        sentence: Why there is no comparison; empty if there is one.
    """

    low: float
    high: float
    ours: float
    other: float
    sentence: str = ""

    @property
    def ratio(self) -> float:
        """Cost of the first over that of the second, below 1 where the first is better."""
        return self.ours / self.other if self.other else math.nan


def compare_fronts(ours: Front, other: Front, names: tuple[str, str] = ("the first", "the second")) -> FrontComparison:
    """Mean costs of two fronts at equal quality, each by the trapezoidal rule over the range that both span.

    The costs are linear between the points, so the rule at all points of both is exact. Fronts that share a single
    quality are compared there.

    Args:
        ours: The first front.
        other: The second front.
        names: What they are called in the sentence that says why there is no comparison.
    """
    low, high = max(ours.low, other.low), min(ours.high, other.high)
    if low > high:
        above, below = (0, 1) if ours.low > other.high else (1, 0)
        fronts = (ours, other)
        return FrontComparison(
            math.nan,
            math.nan,
            math.nan,
            math.nan,
            f"the fronts of {names[0]} and {names[1]} do not overlap: {names[above]} starts at "
            f"{fronts[above].low:.4g} and {names[below]} ends at {fronts[below].high:.4g}",
        )
    inner = {p.quality for front in (ours, other) for p in front.points if low < p.quality < high}
    levels = sorted({low, high, *inner})
    return FrontComparison(low, high, _mean_cost(ours, levels), _mean_cost(other, levels))


def _mean_cost(front: Front, levels: list[float]) -> float:
    costs = [front.cost_at(level) for level in levels]
    if len(levels) == 1:
        return costs[0]
    pieces = zip(levels, levels[1:], costs, costs[1:], strict=False)
    return math.fsum(0.5 * (c + d) * (b - a) for a, b, c, d in pieces) / (levels[-1] - levels[0])
