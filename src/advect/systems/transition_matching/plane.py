"""Eight Gaussians in the plane: flow matching against a joint head and a head per coordinate, by calls."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advect import networks
from advect.data import EightGaussians
from advect.flow import Flow
from advect.metrics import energy_distance
from advect.networks import MLP, MLPKernel, NetSpec
from advect.objectives import DTM, Objective
from advect.randomness import generator, randn
from advect.solvers import Euler
from advect.systems.framework import Curves, Figures, Measured, Outcome, Scatter, Setting, Table, Tuned, compared
from advect.systems.transition_matching.arms import FM, PUBLISHED, better, chain, euler
from advect.training import TrainSettings, train

ED = "unbiased energy distance to eight Gaussians (radius 2, standard deviation .12), 4000 samples"
ED_16 = f"{ED}; 16 inner Euler steps"
COUNTS = (1, 2, 4, 8, 32)
RATES = (1e-3, 2e-3)
EULER, JOINT = "flow matching, Euler", "DTM, joint head"
COORDINATE = "DTM, head per coordinate, 16 head calls per backbone call"

CLAIMS = (
    compared("plane, 1 backbone call", ED_16, JOINT, f"{FM}, at 1 call", low=15.0, paper=PUBLISHED),
    compared("plane, 2 backbone calls", ED_16, JOINT, f"{FM}, at 2 calls", low=12.0),
    compared("plane, 4 backbone calls", ED_16, JOINT, f"{FM}, at 4 calls", low=1.5),
    compared(
        "plane, 1 backbone call against flow matching with 4",
        ED_16,
        f"{JOINT}, 1 backbone and 16 head calls: worse than flow matching at several times its calls",
        f"{FM}, at 4 calls",
        high=1.0,
    ),
    compared(
        "plane, equal calls in total",
        f"{ED}; 17 calls",
        f"{JOINT}, 1 backbone and 16 head calls: no free lunch",
        f"{FM}, at 17 calls (16 of Heun)",
        high=1.0,
    ),
    compared(
        "plane, one inner step",
        f"{ED}; 1 backbone and 1 head call",
        f"{JOINT}: one inner Euler step is an Euler step of flow matching",
        "flow matching, Euler, at 1 call",
        low=0.8,
        high=1.25,
    ),
    compared(
        "plane, joint against per-coordinate head",
        f"{ED}, 4 backbone calls; 16 inner Euler steps",
        JOINT,
        "DTM, a head per coordinate",
        low=1.0,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Energy distance by backbone calls, and by calls of backbone and head together."""
    data = EightGaussians(radius=2.0, std=0.12)
    n = setting.pick(4000, 500)
    checked, final, other = (
        _stratified(data, n, generator(setting.seed, name)) for name in ("tuning", "figures", "floor")
    )

    def run(make: Callable[[NetSpec], networks.Network], objective: Objective | None) -> Flow:
        return _tuned(setting, make, data, objective, checked)

    setting.say("plane: flow matching, DTM with a joint head and with a head per coordinate")
    flow = run(lambda spec: MLP(spec, hidden=(96, 96, 96)), None)
    joint = run(MLPKernel, DTM())
    single = run(lambda spec: MLPKernel(spec, patch=1), DTM())

    def distance(x: Tensor) -> float:
        return float(energy_distance(x, final))

    heads = {s: f"{JOINT}, {s} head calls per backbone call" for s in (1, 4, 16)}
    samples = {EULER: [euler(flow, n, k) for k in COUNTS], FM: [better(flow, n, k, distance) for k in COUNTS]}
    samples |= {arm: [chain(joint, n, k, s) for k in COUNTS if s < 16 or k < 32] for s, arm in heads.items()}
    samples[COORDINATE] = [chain(single, n, k, 16) for k in COUNTS[:-1]]
    error, floor = Figures.of(distance, COUNTS, samples), distance(other)
    best_17 = distance(better(flow, n, 17, distance))
    out.values |= {
        "plane, 1 backbone call": error.against(heads[16], FM, 1, calls=17),
        "plane, 2 backbone calls": error.against(heads[16], FM, 2, calls=34),
        "plane, 4 backbone calls": error.against(heads[16], FM, 4, calls=68),
        "plane, 1 backbone call against flow matching with 4": Measured(
            error.at(heads[16], 1), error.at(FM, 4), calls=17
        ),
        "plane, equal calls in total": Measured(error.at(heads[16], 1), best_17, calls=17),
        "plane, one inner step": error.against(heads[1], EULER, 1, calls=2),
        "plane, joint against per-coordinate head": error.against(heads[16], COORDINATE, 4, calls=68),
    }
    rows = error.arms | {"data against data": [floor] * len(COUNTS)}
    columns = ("arm", *(f"{k} backbone" for k in COUNTS))
    out.tables.append(Table.of("plane", f"Plane: {ED}, by backbone calls", columns, rows))
    calls = {EULER: (EULER, 1)} | {f"DTM, {s} head calls each": (arm, 1 + s) for s, arm in heads.items()}
    total = {
        label: ([float(k * each) for k in COUNTS[: len(error.arms[arm])]], [max(e, 1e-4) for e in error.arms[arm]])
        for label, (arm, each) in calls.items()
    }
    title = "Plane: calls of backbone and head together (below 1e-4 drawn there)"
    out.curves.append(Curves("plane", title, "network calls in total", "energy distance", total, log="xy"))
    at_1, at_2 = ({arm: each[COUNTS.index(k)] for arm, each in samples.items()} for k in (1, 2))
    clouds = {"data": final, "flow matching, 2 calls": at_2[EULER], "DTM, 1 backbone x 16 head": at_1[heads[16]]}
    clouds |= {"DTM, 2 backbone x 16 head": at_2[heads[16]], "DTM, 2 backbone x 1 head": at_2[heads[1]]}
    out.scatters.append(Scatter.of("plane-samples", "Few backbone calls", clouds))


def _tuned(
    setting: Setting,
    make: Callable[[NetSpec], networks.Network],
    data: EightGaussians,
    objective: Objective | None,
    checked: Tensor,
) -> Flow:
    """Trained at each rate; the one whose samples with many calls are nearest to points kept for tuning."""
    n, steps = len(checked), setting.pick(3000, 150)
    flows = {
        f"lr={lr:g}": train(
            make,
            data,
            objective=objective,
            settings=TrainSettings(steps=steps, batch_size=256, lr=lr, optimizer="adam", device="cpu"),
            seed=setting.seed,
        )
        for lr in RATES
    }

    def figure(flow: Flow) -> float:
        x = flow.sample(n, seed=1, steps=32, batch_size=n, solver=None if flow.kind == "kernel" else Euler())
        return float(energy_distance(x, checked))

    return Tuned.of(flows, figure).best


def _stratified(data: EightGaussians, n: int, g: torch.Generator) -> Tensor:
    """n points of the eight Gaussians, as many of each: random numbers of each would add .003 to the distance."""
    angle = torch.arange(n) % 8 * (math.pi / 4)
    return data.radius * torch.stack([angle.cos(), angle.sin()], 1) + data.std * randn((n, 2), g)
