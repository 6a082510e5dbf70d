"""The ring of eight Gaussians: its exact field, and so its exact flow map, are known."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from advect import oracles
from advect.data import EightGaussians
from advect.flow import Flow
from advect.metrics import EnergyDistance
from advect.networks import MLP
from advect.objectives import MeanFlow, Objective, SplitMeanFlow
from advect.randomness import generator
from advect.solvers import Euler, Midpoint
from advect.sources import Gaussian
from advect.systems.framework import (
    Figures,
    Measured,
    Outcome,
    Scatter,
    Setting,
    Table,
    Tuned,
    bounded,
    compared,
    distance_to,
    settings_table,
)
from advect.times import ShiftedGrid, SortedPairs, TimeGrid, Uniform
from advect.training import ConstantEMA, TrainSettings, train

ED = "energy distance, 2000 samples against 4000 of the ring, one call"
BOUND = 1 / 0.3
EULER, SPLIT, MEAN = "exact field, Euler", "SplitMeanFlow", "MeanFlow"
TWO = "two Euler steps of the exact field, tuned"
COUNTS = (1, 2, 4, 8)
RATES = (5e-4, 1e-3, 2e-3)
SHIFTS = {"even steps": 1.0, "steps shifted by 0.5": 0.5, "steps shifted by 2": 2.0}

# energy distance and mean error of the end point: exact field by Euler (deterministic), an earlier run of the methods
REFERENCE: dict[str, list[float | None]] = {
    EULER: [1.457, 0.167, 0.010, 0.004, 2.01, 0.69, 0.16, 0.07],
    SPLIT: [0.0095, 0.005, None, None, 0.21, 0.14, None, None],
    MEAN: [0.021, None, None, None, 0.28, None, None, None],
}

CLAIMS = (
    bounded("Split in one call, ring", ED, "SplitMeanFlow, tuned", TWO, high=0.05),
    compared("Split in one call against two exact Euler steps, ring", ED, "SplitMeanFlow, tuned", TWO, low=BOUND),
    bounded("MeanFlow in one call, ring", ED, "MeanFlow from scratch, tuned", TWO, high=0.05),
    compared(
        "MeanFlow in one call against two exact Euler steps, ring",
        ED,
        "MeanFlow from scratch, tuned",
        TWO,
        low=BOUND,
    ),
    compared(
        "exact and difference derivatives give the same flow map, ring",
        "mean error of the end point against the exact flow map, one call, same seed",
        "MeanFlow with central differences, exact field as v, no adaptive norm",
        "the same with the exact derivative",
        low=0.95,
        high=1.05,
    ),
)


class ExactField(nn.Module):
    """The exact velocity of the ring as a network without weights."""

    def __init__(self, ring: EightGaussians) -> None:
        super().__init__()
        angles = [k * math.pi / 4 for k in range(8)]
        means = tuple((ring.radius * math.cos(a), ring.radius * math.sin(a)) for a in angles)
        self.carried = oracles.GaussianMixture((1.0,) * 8, means, (ring.std**2,) * 8).on()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.carried.velocity(x, t)


Way = Callable[[Tensor, int], Tensor]
"""How noise is carried to the ring in so many calls."""


class _Half(NamedTuple):
    """Noise, and points of the ring to compare its ends with."""

    x0: Tensor
    real: Tensor

    def distance(self, way: Way, calls: int) -> float:
        return distance_to(EnergyDistance(), self.real)(way(self.x0, calls))


def measure(setting: Setting, out: Outcome) -> None:
    """Both methods at three learning rates, Euler's rule on three grids; the best on other noise is reported."""
    data = EightGaussians(radius=2.0, std=0.15)
    exact = ExactField(data)
    choosing, final = _half(data, setting.seed, ", choosing"), _half(data, setting.seed)
    trained = _trained(setting, data, exact)
    eulers = {name: functools.partial(_euler, exact, shift) for name, shift in SHIFTS.items()}
    euler = {k: Tuned.of(eulers, lambda way, k=k: choosing.distance(way, k)) for k in COUNTS}
    arms = {name: Tuned.of(ways, lambda way: choosing.distance(way, 1)) for name, ways in trained.items()}

    ends: dict[str, list[Tensor]] = {EULER: [_euler(exact, 1.0, final.x0, k) for k in COUNTS]}
    ends[f"{EULER}, grid chosen"] = [euler[k].best(final.x0, k) for k in COUNTS]
    ends |= {name: [arm.best(final.x0, k) for k in COUNTS[:2]] for name, arm in arms.items()}
    true = Midpoint()(exact, final.x0, TimeGrid(400))
    distance = Figures.of(distance_to(EnergyDistance(), final.real), COUNTS, ends)
    error = Figures.of(lambda x: float((x - true).norm(dim=1).mean()), COUNTS, ends)

    two = distance.at(f"{EULER}, grid chosen", 2)
    for name, label in ((SPLIT, "Split"), (MEAN, "MeanFlow")):
        value = Measured(distance.at(name, 1), two, calls=1)
        out.values[f"{label} in one call, ring"] = value
        out.values[f"{label} in one call against two exact Euler steps, ring"] = value
    out.values["exact and difference derivatives give the same flow map, ring"] = error.against(
        "exact v, differences", "exact v, derivative", 1
    )
    rows: dict[str, Sequence[float | None]] = {}
    for name, each in distance.arms.items():
        gap = [None] * (len(COUNTS) - len(each))
        rows[name] = [*each, *gap, *error.arms[name], *gap]
    floor = distance_to(EnergyDistance(), final.real)(true)
    rows["exact flow map"] = [floor] * 4 + [0.0] * 4
    columns = ("", *(f"distance, {k} calls" for k in COUNTS), *(f"error, {k} calls" for k in COUNTS))
    title = "Energy distance to the ring and mean error of the end point, beside an independent run"
    out.tables.append(Table.of("ring", title, columns, rows, REFERENCE))
    tried = {f"{EULER}, two steps": euler[2]} | {name: arms[name] for name in (SPLIT, MEAN)}
    title = "Ring: every arm at each setting; the one nearest to other points, from other noise, is reported above"
    out.tables.append(
        settings_table(
            "ring-settings",
            title,
            ("reported",),
            tried,
            lambda arm, way: [final.distance(way, 2 if arm.startswith(EULER) else 1)],
        )
    )
    clouds = {f"{name}, one call": ends[name][0] for name in (SPLIT, MEAN)}
    clouds = {"data": final.real} | clouds | {"exact field, two Euler steps": ends[EULER][1]}
    out.scatters.append(Scatter.of("ring-samples", "The same noise", clouds))


def _half(data: EightGaussians, seed: int, use: str = "") -> _Half:
    x0 = Gaussian().sample((2000, 2), generator=generator(seed, f"ring{use}"))
    return _Half(x0, data.draw(4000, generator(seed, f"target{use}")))


def _euler(exact: ExactField, shift: float, x0: Tensor, calls: int) -> Tensor:
    return Euler()(exact, x0, ShiftedGrid(calls, shift))


def _jumps(flow: Flow, x0: Tensor, calls: int) -> Tensor:
    return flow.sample(len(x0), x0=x0, batch_size=len(x0), steps=calls)


def _trained(setting: Setting, data: EightGaussians, exact: ExactField) -> dict[str, dict[str, Way]]:
    """By method and learning rate; the two derivatives of MeanFlow are compared at one."""
    # low frequencies of time: the derivative in r is as rough as the embedding
    network = functools.partial(MLP, hidden=(128, 128, 128), frequencies=1)
    short = TrainSettings(
        steps=setting.pick(2500, 150), batch_size=256, warmup=0, clip=None, ema=ConstantEMA(0.995), device="cpu"
    )
    alike = short.but(steps=setting.pick(1500, 150))
    pairs = SortedPairs(Uniform(), 0.75)
    runs: dict[str, tuple[Objective, TrainSettings, tuple[float, ...]]] = {
        SPLIT: (SplitMeanFlow(), short, RATES),
        MEAN: (MeanFlow(pairs), short.but(steps=setting.pick(5000, 300)), RATES),
        "exact v, derivative": (MeanFlow(pairs, "jvp", "teacher", None), alike, RATES[1:2]),
        "exact v, differences": (MeanFlow(pairs, "differences", "teacher", None), alike, RATES[1:2]),
    }
    ways: dict[str, dict[str, Way]] = {}
    for name, (objective, settings, rates) in runs.items():
        setting.say(f"ring: {name}")
        others = {"teacher": exact} if "teacher" in objective.needs else None
        ways[name] = {}
        for lr in rates:
            flow = train(network, data, objective=objective, others=others, settings=settings, lr=lr, seed=setting.seed)
            ways[name][f"rate {lr:g}"] = functools.partial(_jumps, flow)
    return ways
