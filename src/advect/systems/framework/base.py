"""A system's page: which parts make a published method, what it claims, and how each claim is checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from advect.parts import class_path
from advect.systems.framework.outcome import Measured, Outcome


@dataclass(frozen=True)
class Rule:
    """What a measurement must satisfy, in every seed.

    Args:
        on: "ours" (the figure itself) or "improvement" (how many times better than the baseline of the same run:
            baseline/ours where lower is better, ours/baseline where higher is).
        low: The smallest value that passes, if any.
        high: The largest value that passes, if any.
    """

    on: Literal["ours", "improvement"]
    low: float | None = None
    high: float | None = None

    def __call__(self, measured: Measured, better: str) -> bool:
        """Whether one seed's measurement passes; a figure that is not finite never does."""
        value = measured.ours if self.on == "ours" else measured.improvement(better)
        if value is None or not math.isfinite(value):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        what = "ours" if self.on == "ours" else "times better than the baseline"
        if self.low is not None and self.high is not None:
            return f"{what} in [{self.low:g}, {self.high:g}]"
        return f"{what} {'>=' if self.low is not None else '<='} {self.low if self.low is not None else self.high:g}"


@dataclass(frozen=True)
class Claim:
    """One thing a system is said to do, and the rule that decides whether our measurement shows it.

    Args:
        name: Short name, unique on the page.
        metric: What is measured, with its unit, data set and number of samples.
        better: Whether lower or higher is better.
        rule: When it holds; None where nothing but the direction is published (then `holds` is null).
        paper: The published figure, with where it stands; None if there is none.
        ours_is: What "ours" is, in words.
        baseline_is: What the baseline of the same run is, in words.
        cause: Why it does not hold, where it is known that it does not; shown only if the rule fails.
    """

    name: str
    metric: str
    better: Literal["lower", "higher"]
    rule: Rule | None
    paper: float | str | None = None
    ours_is: str = ""
    baseline_is: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Setting:
    """How one seed of an experiment is run.

    Args:
        scale: "cpu" (minutes on two cores) or "gpu".
        seed: The seed.
        quick: Whether to run the short version, whose figures are never quoted.
        folder: An empty folder for what the run writes on the way.
        say: Takes a line of progress.
    """

    scale: str
    seed: int
    quick: bool
    folder: Path
    say: Callable[[str], None] = lambda line: None

    def pick(self, full: int, quick: int) -> int:
        """The number for the full run or for the quick one."""
        return quick if self.quick else full


@dataclass(frozen=True)
class System:
    """One published system as an assembly of parts.

    Args:
        slug: Its name in commands and file names.
        title: Its name.
        paper: Authors, title, year.
        arxiv: The arXiv number; of a paper that is elsewhere, place and number ("OpenReview sev0GtV1fc").
        purpose: What it is for, in one sentence.
        seats: The parts by seat; classes or functions of advect.
        claims: What is measured.
        experiment: Runs one seed and gives a measurement for every claim.
        scales: The scales it can be run at.
    """

    slug: str
    title: str
    paper: str
    arxiv: str
    purpose: str
    seats: Mapping[str, tuple[Callable[..., Any], ...]]
    claims: tuple[Claim, ...]
    experiment: Callable[[Setting], Outcome]
    scales: tuple[str, ...] = ("cpu",)

    @property
    def reference(self) -> str:
        """Where the paper is."""
        return self.arxiv if " " in self.arxiv else f"arXiv {self.arxiv}"

    def seat_names(self) -> dict[str, list[str]]:
        """The importable names of the parts by seat."""
        return {seat: [_name(part) for part in parts] for seat, parts in self.seats.items()}


def in_turn(*measure: Callable[[Setting, Outcome], None]) -> Callable[[Setting], Outcome]:
    """An experiment of several parts, each of which adds what it finds to one outcome.

    Args:
        measure: The parts, in the order in which they run.
    """

    def experiment(setting: Setting) -> Outcome:
        out = Outcome()
        for part in measure:
            part(setting, out)
        return out

    return experiment


def _name(part: Callable[..., Any]) -> str:
    return class_path(part) if isinstance(part, type) else f"{part.__module__}.{part.__qualname__}"
