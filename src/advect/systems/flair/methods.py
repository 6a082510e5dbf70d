"""FLAIR, FLAIR without one of its parts, and six baselines, each over as many settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from advect.inverse import (
    OTODE,
    CalibratedWeights,
    Consistency,
    ConstantWeight,
    DFlow,
    FixedShare,
    Flair,
    FlowChef,
    FlowDPS,
    InverseMethod,
    PnPFlow,
    Replacement,
)
from advect.systems.framework import Claim, Tuned, compared

UNTUNED = "FLAIR, not tuned"
WHOLE = "full > without calibration > without noise adjustment on x12 reduction, consistency essential (no figures)"


def settings(weights: CalibratedWeights, steps: int, iterations: int) -> dict[str, list[InverseMethod]]:
    """Four settings for every method: the strongest of them on tuning pictures is measured."""

    def of(beta: float) -> CalibratedWeights:
        return CalibratedWeights(weights.offset, max_beta=beta).fit(weights.errors)

    return {
        "FLAIR": [Flair(steps, weights=of(beta)) for beta in (0.5, 0.75, 0.85, 1.0)],
        "FlowDPS": [FlowDPS(rate, grid=FlowDPS().grid.with_steps(steps)) for rate in (2.0, 8.0, 32.0, 128.0)],
        "FlowChef": [FlowChef(rate, grid=FlowChef().grid.with_steps(steps)) for rate in (0.1, 0.25, 0.5, 1.0)],
        "PnP-Flow": [PnPFlow(steps, 1, rate, power) for rate, power in ((1, 0.5), (1, 0.2), (2, 0.2), (2, 0.1))],
        "D-Flow": [DFlow(decay, iterations=iterations) for decay in (1e-4, 1e-3, 1e-2, 1e-1)],
        "OT-ODE": [OTODE(s, begin, steps) for s, begin in ((1, 0.05), (1, 0.1), (1, 0.2), (0.5, 0.1))],
        "replacement": [
            Replacement(FixedShare(share), grid=Replacement().grid.with_steps(steps)) for share in (0.0, 0.5, 0.9, 1.0)
        ],
    }


def ablations(weights: CalibratedWeights) -> dict[str, Flair]:
    """FLAIR and FLAIR without one of its parts, nothing tuned."""
    beta = weights.max_beta or 0.85
    return {
        UNTUNED: Flair(weights=weights),
        "constant weights": Flair(weights=ConstantWeight(beta)),
        "fresh noise": Flair(weights=weights, renoise=FixedShare(0.0)),
        "one data step": Flair(weights=weights, consistency=Consistency(steps=1)),
    }


def best(choices: Sequence[InverseMethod], score: Callable[[InverseMethod], float]) -> tuple[int, InverseMethod]:
    """The number, from 1, and the setting with the lowest score."""
    tuned = Tuned.of({str(number): choice for number, choice in enumerate(choices, 1)}, score)
    return int(tuned.setting), tuned.best


def ablation(part: str, baseline: str, task: str, where: str, metric: str, low: float | None) -> Claim:
    """The claim that FLAIR is better than FLAIR without one of its parts."""
    return compared(f"{part}, {task}, {where}", metric, "FLAIR", baseline, low=low, paper=WHOLE)


def against_tuned(task: str, where: str, metric: str, cause: str) -> Claim:
    """The claim that FLAIR is at least as good as the best of the baselines, all tuned."""
    return compared(
        f"against the best tuned baseline, {task}, {where}",
        metric,
        "FLAIR, tuned",
        "the best of FlowDPS, FlowChef, PnP-Flow, D-Flow, OT-ODE and replacement, each tuned",
        low=1.0,
        paper="FLAIR best of all in LPIPS and FID (Stable Diffusion 3.5, no cells available)",
        cause=cause,
    )
