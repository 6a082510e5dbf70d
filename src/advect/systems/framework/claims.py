"""Claims in one line each: judged by their baseline, or by the figure itself."""

from __future__ import annotations

from typing import Literal

from advect.systems.framework.base import Claim, Rule


def compared(
    name: str,
    metric: str,
    ours: str,
    baseline: str,
    *,
    low: float | None = None,
    high: float | None = None,
    better: Literal["lower", "higher"] = "lower",
    paper: float | str | None = None,
    cause: str = "",
) -> Claim:
    """A claim judged by how many times better ours is than the baseline of the same run.

    Args:
        name: Short name, unique on the page.
        metric: What is measured, with its unit, data set and number of samples.
        ours: What "ours" is, in words.
        baseline: What the baseline is, in words.
        low: The least improvement that passes; 1 is "not worse".
        high: The largest improvement that passes: for controls, and for what the paper says to lose. With neither, the
            figures are shown and nothing is judged.
        better: Whether lower or higher is better.
        paper: The published figure, with where it stands.
        cause: Why it does not hold, where it is known that it does not.
    """
    rule = None if low is None and high is None else Rule("improvement", low, high)
    return Claim(name, metric, better, rule, paper, ours, baseline, cause)


def bounded(
    name: str,
    metric: str,
    ours: str = "",
    baseline: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    better: Literal["lower", "higher"] = "lower",
    paper: float | str | None = None,
    cause: str = "",
) -> Claim:
    """A claim judged by the figure itself, which is to lie in [low, high]; a baseline only stands beside it.

    Args:
        name: Short name, unique on the page.
        metric: What is measured, with its unit, data set and number of samples.
        ours: What "ours" is, in words.
        baseline: What stands beside it, in words.
        low: The smallest figure that passes.
        high: The largest figure that passes. With neither, the figures are shown and nothing is judged.
        better: Whether lower or higher is better.
        paper: The published figure, with where it stands.
        cause: Why it does not hold, where it is known that it does not.
    """
    rule = None if low is None and high is None else Rule("ours", low, high)
    return Claim(name, metric, better, rule, paper, ours, baseline, cause)
