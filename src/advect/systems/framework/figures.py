"""One figure per arm and swept value: the claims, the table and the plot of a page are taken from the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from advect.metrics import Metric
from advect.systems.framework.outcome import Curves, Measured

Figure = Callable[[Tensor], float]


def distance_to(metric: Metric, real: Tensor) -> Figure:
    """The metric of samples against these real ones, as a number without its interval.

    Args:
        metric: A metric of two sets.
        real: The real samples, (M, *shape).
    """
    return lambda x: metric(x, real, resamples=0).value


@dataclass(frozen=True)
class Figures:
    """What several arms were found to reach at several values of one setting.

    Args:
        swept: The values that were swept, in the order of the columns: numbers of steps, noise levels.
        arms: By arm, one figure per swept value; fewer where an arm was not taken to the last ones.
    """

    swept: Sequence[float]
    arms: dict[str, list[float]]

    @classmethod
    def of(cls, figure: Figure, swept: Sequence[float], samples: Mapping[str, Iterable[Tensor]]) -> Figures:
        """The figures of samples that were drawn for every arm and swept value."""
        return cls(swept, {arm: [figure(x) for x in each] for arm, each in samples.items()})

    def at(self, arm: str, value: float) -> float:
        """The figure of one arm at one swept value."""
        return self.arms[arm][self.swept.index(value)]

    def against(self, ours: str, baseline: str, value: float, calls: int | None = None) -> Measured:
        """Two arms at one swept value, for a claim.

        Args:
            ours: The arm that makes the claim.
            baseline: The arm it is compared with.
            value: The swept value.
            calls: Network calls per sample of ours; the swept value where that is a number of calls (None).
        """
        return Measured(self.at(ours, value), self.at(baseline, value), round(value) if calls is None else calls)

    def curves(
        self,
        name: str,
        title: str,
        x: str,
        y: str,
        log: Literal["", "x", "y", "xy"] = "xy",
        levels: Mapping[str, float] | None = None,
    ) -> Curves:
        """The plot: a line for each arm against the swept value.

        Args:
            name: File name without its ending.
            title: The title.
            x: Name of the x axis.
            y: Name of the y axis.
            log: Which axes are logarithmic.
            levels: Horizontal lines over the whole range, by label.
        """
        lines = {arm: ([float(v) for v in self.swept[: len(each)]], list(each)) for arm, each in self.arms.items()}
        ends = [float(self.swept[0]), float(self.swept[-1])]
        for label, level in (levels or {}).items():
            lines[label] = (ends, [level, level])
        return Curves(name, title, x, y, lines, log)
