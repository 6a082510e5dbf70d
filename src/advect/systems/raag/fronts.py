"""Every rule over eight settings: fronts of accuracy and distance to the data, compared where they reach alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advect.fitting import alpha_for
from advect.guidance import APG, CFG, RAAG, CFGZeroStar, Guidance, Interval, Rescale
from advect.metrics import Front, Point, compare_fronts, pareto_front
from advect.systems.framework import Claim, Curves, Measured, Outcome, Table, compared

STEPS = (5, 10, 20, 30)
FASTER = "3 times fewer steps at equal or better quality (abstract; Stable Diffusion 3.5, Qwen-Image, Wan2.1)"

Rules = dict[str, dict[str, Guidance]]


def claims(what: str, metric: str, cause: str = "") -> tuple[Claim, ...]:
    """The same four comparisons of fronts on either data."""
    ours, cfg, at_10 = "RAAG, front of 8 settings", "CFG, front of 8 settings", f"{metric}, 10 Euler steps"
    others = "of CFG, interval, CFG-Zero*, APG, rescaled CFG (8 settings each) the nearest to the data"
    return (
        compared(f"front, 10 steps, {what}", at_10, ours, cfg, low=1.0, paper=FASTER, cause=cause),
        compared(f"front, 30 steps, {what}", f"{metric}, 30 Euler steps", ours, cfg),
        compared(
            f"10 steps against 30 of CFG, {what}",
            f"{at_10} against 30",
            f"{ours}, 10 steps",
            f"{cfg}, 30 steps",
            low=1.0,
            paper=FASTER,
            cause=cause,
        ),
        compared(f"front against the best other rule, 10 steps, {what}", at_10, ours, others),
    )


def sweeps(ratio: float, few: bool = False) -> Rules:
    """Eight settings of every rule, from weak to strong, by name; `ratio` is the median of the first step."""
    scales = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
    found: Rules = {
        "CFG": {f"w={w:g}": CFG(w) for w in scales},
        "interval": {
            f"w={w:g} in {low:g}..{high:g}": Interval(CFG(w), low, high)
            for w in (1.5, 2.5, 4.0, 7.0)
            for low, high in ((0.15, 0.7), (0.0, 0.5))
        },
        "CFG-Zero*": {f"w={w:g}": CFGZeroStar(w, zero_steps=1) for w in scales},
        "APG": {f"w={w:g}, eta={eta:g}": APG(w, eta=eta) for w in (1.5, 2.5, 4.0, 7.0) for eta in (0.0, 0.5)},
        "rescaled CFG": {
            f"w={w:g}, phi={phi:g}": Rescale(CFG(w), phi) for w in (1.5, 2.5, 4.0, 7.0) for phi in (0.3, 0.7)
        },
        "RAAG": {  # share: of w_max - 1, at the median ratio of the first step
            f"w_max={most:g}, share={share:g}": RAAG(most, alpha_for(ratio, most, 1 + share * (most - 1)))
            for most in (2.5, 4.0, 8.0, 18.0)
            for share in (0.15, 0.5)
        },
    }
    return {rule: dict(list(each.items())[:: 3 if few else 1]) for rule, each in found.items()}


@dataclass
class Swept:
    """Fronts by rule and number of steps; plain sampling is one setting of every rule."""

    fronts: dict[str, dict[int, Front]]
    rules: Rules


def sweep(measured: Callable[[Guidance | None, int], tuple[float, float]], rules: Rules) -> Swept:
    """The fronts of all rules.

    Args:
        measured: Accuracy and distance of a rule (None: plain sampling) at a number of steps.
        rules: The settings by rule, as :func:`sweeps` gives them.
    """
    plain = {k: Point(*measured(None, k), name="plain") for k in STEPS}
    fronts = {
        rule: {
            k: pareto_front([plain[k], *(Point(*measured(each, k), name=name) for name, each in settings.items())])
            for k in STEPS
        }
        for rule, settings in rules.items()
    }
    return Swept(fronts, rules)


def compare(out: Outcome, swept: Swept, what: str, cost: str) -> None:
    """The four comparisons, the table against CFG at equal accuracy, and a plot of the fronts at 10 steps."""

    def against(rule: str, k: int, other: str, steps: int) -> Measured:
        found = compare_fronts(
            swept.fronts[rule][k], swept.fronts[other][steps], (f"{rule} ({k} steps)", f"{other} ({steps} steps)")
        )
        if found.sentence:
            out.notes.append(f"{what}: {found.sentence}")
        return Measured(found.ours, found.other, calls=k)

    out.values |= {
        f"front, 10 steps, {what}": against("RAAG", 10, "CFG", 10),
        f"front, 30 steps, {what}": against("RAAG", 30, "CFG", 30),
        f"10 steps against 30 of CFG, {what}": against("RAAG", 10, "CFG", 30),
    }
    others = {rule: against("RAAG", 10, rule, 10) for rule in swept.fronts if rule != "RAAG"}
    best = max(others, key=lambda rule: others[rule].ratio or 0.0)
    out.values[f"front against the best other rule, 10 steps, {what}"] = others[best]
    out.notes.append(f"{what}: the best other rule at 10 steps is {best} (seed 0)")

    rows: dict[str, list[float | None]] = {}
    for rule, by_steps in swept.fronts.items():
        ratios = [compare_fronts(by_steps[k], swept.fronts["CFG"][k]).ratio for k in STEPS]
        finite = [value if math.isfinite(value) else None for value in ratios]
        rows[rule] = [*finite, *(by_steps[k].high for k in STEPS)]
    columns = ("rule", *(f"T={k}" for k in STEPS), *(f"best accuracy, T={k}" for k in STEPS))
    title = f"Fronts at equal accuracy, {what}: {cost} over that of CFG, on the range both share, and their reach"
    out.tables.append(Table.of(f"fronts-{what}", title, columns, rows))

    low = min(front[10].low for front in swept.fronts.values())
    levels = [low + (1.0 - low) * i / 40 for i in range(41)]
    lines = {rule: (levels, [front[10].cost_at(level) for level in levels]) for rule, front in swept.fronts.items()}
    out.curves.append(Curves(f"{what}-fronts", f"Fronts at 10 steps, {what}", "accuracy", cost, lines))


def show_ratios(
    out: Outcome, what: str, times: Sequence[float], median: Sequence[float], mean: Sequence[float]
) -> None:
    """The plot of the ratio over time."""
    lines = {"median": (list(times), list(median)), "mean": (list(times), list(mean))}
    title = f"Ratio of gap and velocity on the way of plain sampling, {what}"
    out.curves.append(Curves(f"{what}-ratio", title, "t", "|v_c - v_null| / |v_null|", lines))
