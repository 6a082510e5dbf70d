"""SplitMeanFlow and MeanFlow: average velocities, and with them samples in one network call.

Measured on the ring of eight Gaussians, where the exact field and so the exact flow map are known, and on handwritten
digits with classes, beside the teacher's Euler steps and beside distillation from its pairs.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from advect import couplings, interpolants, objectives, oracles, sources, times
from advect.batch import Batch
from advect.data import Digits, EightGaussians
from advect.distillation import KStep
from advect.encoders import SmallClassifier
from advect.flow import Flow
from advect.guidance import CFG
from advect.metrics import ClassAccuracy, EnergyDistance, FrechetDistance
from advect.networks import MLP, DiT, UNet
from advect.objectives import MeanFlow, SplitMeanFlow
from advect.randomness import generator
from advect.solvers import Euler, FlowMapJumps, Heun, Midpoint
from advect.sources import Gaussian
from advect.systems.framework import (
    Claim,
    Curves,
    Measured,
    Outcome,
    Pictures,
    Rule,
    Scatter,
    Setting,
    System,
    Table,
    all_images,
    all_labels,
    digits_network,
    held_out,
    images_of,
    points_of,
    with_nearest,
)
from advect.times import SortedPairs, TimeGrid, Uniform
from advect.training import ConstantEMA, TrainSettings, make_pairs, reflow, train

RING = "energy distance, 2000 samples against 4000 of the ring, one call"
FD = "FD[digits classifier], 2000 samples with classes against the held-out digits"
BOUND = 1 / 0.3

# energy distance and mean error of the end point: exact field by Euler (deterministic), an earlier run of the methods
REFERENCE: dict[str, tuple[float | None, ...]] = {
    "exact field, Euler": (1.457, 0.167, 0.010, 0.004, 2.01, 0.69, 0.16, 0.07),
    "SplitMeanFlow": (0.0095, 0.005, None, None, 0.21, 0.14, None, None),
    "MeanFlow": (0.021, None, None, None, 0.28, None, None, None),
}


def _claim(name: str, metric: str, rule: Rule | None, ours: str, baseline: str, **more: Any) -> Claim:
    return Claim(name, metric, more.pop("better", "lower"), rule, ours_is=ours, baseline_is=baseline, **more)


NEAR_ITS_BEST = (
    "two Euler steps of the teacher are nearly its best on these small pictures with classes (3.3, and 3.0 with four, "
    "3.4 with eight, seed 0), so nothing that follows the teacher can be 3.3 times better"
)
TEN_CALLS = "Seed-TTS similarity and word error: 0.685 and 2.86 % in one call, 0.686 and 2.86 % for 10 guided steps"
CLAIMS = (
    _claim("Split in one call, ring", RING, Rule("ours", high=0.05), "SplitMeanFlow", "two exact Euler steps"),
    _claim(
        "Split in one call against two exact Euler steps, ring",
        RING,
        Rule("improvement", low=BOUND),
        "SplitMeanFlow",
        "two Euler steps of the exact field",
    ),
    _claim("MeanFlow in one call, ring", RING, Rule("ours", high=0.05), "MeanFlow", "two exact Euler steps"),
    _claim(
        "MeanFlow in one call against two exact Euler steps, ring",
        RING,
        Rule("improvement", low=BOUND),
        "MeanFlow from scratch",
        "two Euler steps of the exact field",
    ),
    _claim(
        "exact and difference derivatives give the same flow map, ring",
        "mean error of the end point against the exact flow map, one call, same seed",
        Rule("improvement", low=0.95, high=1.05),
        "MeanFlow with central differences, exact field as v, no adaptive norm",
        "the same with the exact derivative",
    ),
    _claim(
        "Split in one call, digits",
        f"{FD}, one call",
        Rule("improvement", low=BOUND),
        "SplitMeanFlow from the teacher",
        "two Euler steps of the teacher",
        cause=NEAR_ITS_BEST,
    ),
    _claim(
        "MeanFlow from scratch in one call, digits",
        f"{FD}, one call",
        Rule("improvement", low=BOUND),
        "MeanFlow from scratch",
        "two Euler steps of the teacher",
        cause=NEAR_ITS_BEST,
    ),
    _claim(
        "MeanFlow from the teacher's weights in one call, digits",
        f"{FD}, one call",
        Rule("improvement", low=BOUND),
        "MeanFlow, started from the weights of the teacher",
        "two Euler steps of the teacher",
        cause=NEAR_ITS_BEST,
    ),
    _claim(
        "a warm start helps MeanFlow, digits",
        f"{FD}, one call, the same number of further steps",
        Rule("improvement", low=1.0),
        "MeanFlow, started from the weights of the teacher",
        "MeanFlow from scratch",
    ),
    _claim(
        "one call for ten guided steps, digits",
        f"{FD}",
        Rule("improvement", low=0.8),
        "SplitMeanFlow of the guided teacher, one call",
        "ten Euler steps of the teacher with guidance 2, twenty calls",
        paper=TEN_CALLS,
    ),
    _claim(
        "classes in one call for ten guided steps, digits",
        "class accuracy of an independent classifier, 2000 samples",
        Rule("improvement", low=0.97),
        "SplitMeanFlow of the guided teacher, one call",
        "ten Euler steps of the teacher with guidance 2, twenty calls",
        better="higher",
        paper=TEN_CALLS,
    ),
    _claim(
        "Split against distilled pairs, digits",
        f"{FD}, one call, the same number of steps after the teacher",
        None,
        "SplitMeanFlow from the teacher",
        "one Euler step, distilled from 10,000 pairs of the teacher",
    ),
    _claim(
        "Split against MeanFlow, digits",
        f"{FD}, one call, both started from the weights of the teacher",
        None,
        "SplitMeanFlow from the teacher",
        "MeanFlow, started from the weights of the teacher",
    ),
)


def experiment(setting: Setting) -> Outcome:
    """The ring, where the truth is known, and the digits."""
    out = Outcome()
    _ring(setting, out)
    _digits(setting, out)
    return out


class ExactField(nn.Module):
    """The exact velocity of the ring as a network without weights."""

    def __init__(self, ring: EightGaussians) -> None:
        super().__init__()
        angles = [k * math.pi / 4 for k in range(8)]
        means = tuple((ring.radius * math.cos(a), ring.radius * math.sin(a)) for a in angles)
        self.carried = oracles.GaussianMixture((1.0,) * 8, means, (ring.std**2,) * 8).on()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.carried.velocity(x, t)


def _ring(setting: Setting, out: Outcome) -> None:
    data = EightGaussians(radius=2.0, std=0.15)
    exact = ExactField(data)
    # low frequencies of time: the derivative in r is as rough as the embedding
    network = functools.partial(MLP, hidden=(128, 128, 128), frequencies=1)
    short = TrainSettings(
        steps=setting.pick(2500, 150),
        batch_size=256,
        lr=1e-3,
        warmup=0,
        clip=None,
        ema=ConstantEMA(0.995),
        device="cpu",
    )
    compared = short.but(steps=setting.pick(1500, 150))
    runs: dict[str, tuple[objectives.Objective, TrainSettings]] = {
        "SplitMeanFlow": (SplitMeanFlow(), short),
        "MeanFlow": (MeanFlow(SortedPairs(Uniform(), 0.75)), short.but(steps=setting.pick(5000, 300))),
        "exact v, derivative": (MeanFlow(SortedPairs(Uniform(), 0.75), "jvp", "teacher", None), compared),
        "exact v, differences": (MeanFlow(SortedPairs(Uniform(), 0.75), "differences", "teacher", None), compared),
    }
    flows: dict[str, Flow] = {}
    for name, (objective, settings) in runs.items():
        setting.say(f"ring: {name}")
        others = {"teacher": exact} if "teacher" in objective.needs else None
        flows[name] = train(network, data, objective=objective, others=others, settings=settings, seed=setting.seed)

    n, counts = 2000, [1, 2, 4, 8]
    x0 = Gaussian().sample((n, 2), generator=generator(setting.seed, "ring"))
    target = data.draw(4000, generator(setting.seed, "target"))
    ends: dict[str, list[Tensor]] = {"exact field, Euler": [Euler()(exact, x0, TimeGrid(k)) for k in counts]}
    for name, flow in flows.items():
        ends[name] = [flow.sample(n, x0=x0, batch_size=n, steps=k) for k in counts[:2]]
    true = Midpoint()(exact, x0, TimeGrid(400))
    distance = {name: [_energy(x, target) for x in each] for name, each in ends.items()}
    error = {name: [float((x - true).norm(dim=1).mean()) for x in each] for name, each in ends.items()}

    euler = distance["exact field, Euler"][1]
    for name, label in (("SplitMeanFlow", "Split"), ("MeanFlow", "MeanFlow")):
        value = Measured(distance[name][0], euler, calls=1)
        out.values[f"{label} in one call, ring"] = value
        out.values[f"{label} in one call against two exact Euler steps, ring"] = value
    out.values["exact and difference derivatives give the same flow map, ring"] = Measured(
        error["exact v, differences"][0], error["exact v, derivative"][0], calls=1
    )
    rows: list[tuple[str, list[float | None]]] = []
    for name in ends:
        missing: list[float | None] = [None] * (len(counts) - len(ends[name]))
        rows.append((name, [*distance[name], *missing, *error[name], *missing]))
        if name in REFERENCE:
            rows.append((f"{name}, reference run", list(REFERENCE[name])))
    floor: list[float | None] = [_energy(true, target)]
    rows.append(("exact flow map", floor * 4 + [0.0] * 4))
    columns = ("", *(f"distance, {k} calls" for k in counts), *(f"error, {k} calls" for k in counts))
    title = "Energy distance to the ring and mean error of the end point, beside an independent run"
    out.tables.append(Table("ring", title, columns, rows))
    clouds = {f"{name}, one call": points_of(ends[name][0]) for name in ("SplitMeanFlow", "MeanFlow")}
    euler_cloud = {"exact field, two Euler steps": points_of(ends["exact field, Euler"][1])}
    out.scatters.append(Scatter("ring-samples", "The same noise", {"data": points_of(target)} | clouds | euler_cloud))


def _energy(x: Tensor, y: Tensor) -> float:
    return EnergyDistance()(x, y, resamples=0).value


def _digits(setting: Setting, out: Outcome) -> None:
    digits = Digits()
    settings = TrainSettings(steps=setting.pick(5000, 300), batch_size=128, lr=1e-3, device="cpu")
    setting.say("digits: teacher")
    teacher = train(digits_network, digits, drop=0.1, settings=settings, seed=setting.seed)
    guided = _with_guidance(teacher, CFG(2.0))
    after: dict[str, Any] = {"settings": settings.but(steps=setting.pick(3000, 200)), "seed": setting.seed + 1}
    mean = MeanFlow(SortedPairs(Uniform(), 0.75))
    students: dict[str, dict[str, Any]] = {
        "Split": {"objective": SplitMeanFlow(), "others": {"teacher": teacher}, "start_from": teacher},
        "Split of the guided teacher": {
            "objective": SplitMeanFlow(),
            "others": {"teacher": guided},
            "start_from": teacher,
        },
        "MeanFlow": {"objective": mean},
        "MeanFlow from the teacher": {"objective": mean, "start_from": teacher},
    }
    flows: dict[str, Flow] = {}
    for name, options in students.items():
        setting.say(f"digits: {name}")
        flows[name] = train(digits_network, digits, **options, **after)
    setting.say("digits: pairs of the teacher, distilled")
    folder = setting.folder / "digits"
    pairs = make_pairs(
        teacher, setting.pick(10_000, 600), folder, solver=Heun(), steps=10, data=digits, seed=setting.seed
    )
    distilled = reflow(teacher, pairs, objective=KStep(1), **after)

    setting.say("digits: samples")
    n = setting.pick(2000, 300)
    known = torch.cat([all_labels(digits, split) for split in ("validation", "test")])
    label = known[torch.arange(n) % len(known)]
    judge = SmallClassifier("digits")
    measures = _Judges(held_out(digits), label, FrechetDistance(judge), ClassAccuracy(judge))
    options: dict[str, Any] = {"seed": setting.seed, "label": label}
    counts = [1, 2, 4, 8]
    samples: dict[str, list[Tensor]] = {
        "teacher": [teacher.sample(n, solver=Euler(), steps=k, **options) for k in counts],
        "guided teacher": [guided.sample(n, solver=Euler(), steps=k, **options) for k in (*counts[:3], 10)],
        "distilled pairs": [distilled.sample(n, **options)],
    }
    for name, flow in flows.items():
        samples[name] = [flow.sample(n, steps=k, **options) for k in counts[:2]]
    fd = {name: [measures.distance(x) for x in each] for name, each in samples.items()}
    accuracy = {name: [measures.accuracy(x) for x in each] for name, each in samples.items()}

    two = fd["teacher"][1]
    guided_fd, guided_accuracy = fd["guided teacher"][3], accuracy["guided teacher"][3]
    out.values |= {
        "Split in one call, digits": Measured(fd["Split"][0], two, calls=1),
        "MeanFlow from scratch in one call, digits": Measured(fd["MeanFlow"][0], two, calls=1),
        "MeanFlow from the teacher's weights in one call, digits": Measured(
            fd["MeanFlow from the teacher"][0], two, calls=1
        ),
        "a warm start helps MeanFlow, digits": Measured(fd["MeanFlow from the teacher"][0], fd["MeanFlow"][0], calls=1),
        "one call for ten guided steps, digits": Measured(fd["Split of the guided teacher"][0], guided_fd, calls=1),
        "classes in one call for ten guided steps, digits": Measured(
            accuracy["Split of the guided teacher"][0], guided_accuracy, calls=1
        ),
        "Split against distilled pairs, digits": Measured(fd["Split"][0], fd["distilled pairs"][0], calls=1),
        "Split against MeanFlow, digits": Measured(fd["Split"][0], fd["MeanFlow from the teacher"][0], calls=1),
    }
    rows: list[tuple[str, list[float | None]]] = []
    for name in samples:
        missing: list[float | None] = [None] * (4 - len(fd[name]))
        rows.append((name, [*fd[name], *missing, *accuracy[name], *missing]))
    heads = ("1", "2", "4", "8 (guided: 10)")
    columns = ("", *(f"FD, {k} steps" for k in heads), *(f"accuracy, {k} steps" for k in heads))
    title = "Digits: Frechet distance and class accuracy by Euler steps or jumps; a guided step is two calls"
    out.tables.append(Table("digits", title, columns, rows))
    lines = {name: ([float(k) for k in counts[: len(v)]], v) for name, v in fd.items() if name != "guided teacher"}
    title = "Digits 8x8 with classes"
    out.curves.append(Curves("digits", title, "network calls", "FD[digits classifier]", lines, log="xy"))
    strips = {f"{name}, one step": images_of(samples[name][0]) for name in samples}
    strips["guided teacher, ten steps"] = images_of(samples["guided teacher"][3])
    out.pictures.append(Pictures("digits-samples", "The same noise and classes", strips))
    near = with_nearest(samples["Split"][0], all_images(digits), "Split, one call")
    out.pictures.append(Pictures("digits-nearest", "Is it copying?", near))


class _Judges:
    """Both figures of samples with the classes they were asked for."""

    def __init__(self, real: Tensor, label: Tensor, fd: FrechetDistance, accuracy: ClassAccuracy) -> None:
        self.real, self.label, self.fd, self.right = real, label, fd, accuracy

    def distance(self, x: Tensor) -> float:
        return self.fd(x, self.real, resamples=0).value

    def accuracy(self, x: Tensor) -> float:
        return float(self.right.represent(Batch(x, {"label": self.label})).float().mean())


def _with_guidance(flow: Flow, rule: CFG) -> Flow:
    """The same networks, sampled and taught with guidance."""
    guided = copy.copy(flow)
    guided.sampler = flow.sampler.but(guidance=(rule,))
    return guided


SYSTEM = System(
    slug="split-meanflow",
    title="SplitMeanFlow and MeanFlow",
    paper="Guo et al.: SplitMeanFlow: Interval Splitting Consistency in Few-Step Generative Modeling, 2025; "
    "Geng et al.: Mean Flows for One-step Generative Modeling, 2025",
    arxiv="2507.16884",
    purpose="Learns average velocities, from a teacher or from scratch, so that one network call is a sample.",
    seats={
        "source": (sources.Gaussian,),
        "coupling": (couplings.Independent,),
        "interpolant": (interpolants.Linear,),
        "objective": (SplitMeanFlow, MeanFlow, objectives.AdaptiveNorm, objectives.TargetGuidance),
        "times": (times.SortedPairs, times.ClippedPairs),
        "network": (MLP, UNet, DiT),
        "solver": (FlowMapJumps,),
        "guidance": (CFG,),
        "training": (train, reflow, make_pairs),
    },
    claims=CLAIMS,
    experiment=experiment,
)
