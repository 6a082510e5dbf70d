"""Rectified flow: straight flows by reflow, few steps by distillation.

Measured on the plane (a Gaussian to eight Gaussians), on handwritten digits, and between two sets of real pictures;
with the control that shows what matters: the same extra training on shuffled pairs.
"""

from __future__ import annotations

import torch

from advect import couplings, distillation, interpolants, solvers, sources, times
from advect.data import Clothing, Digits, EightGaussians, StoredPairs, Tensors, TwoDomains
from advect.diagnostics import straightness
from advect.distillation import KStep, OnlineReflow
from advect.encoders import SmallClassifier
from advect.metrics import EnergyDistance, FrechetDistance, SlicedW2
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.randomness import generator, randperm
from advect.solvers import RK4, Euler, Heun
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
    digits_network,
    held_out,
    images_of,
    points_of,
    small_grey,
)
from advect.training import ConstantEMA, TrainSettings, make_pairs, reflow, reflow_online, train

PLANE = "sliced W2, N(0, I) to eight Gaussians, 8000 samples"
FD = "FD[digits classifier], 2000 samples against the held-out digits, no classes given"

# sliced W2 at 1, 2, 4, 8, 50 Euler steps, and straightness S, on the plane: one independent run, 6000 steps a stage
REFERENCE: dict[str, tuple[float, ...]] = {
    "1-RF": (2.77, 0.73, 0.28, 0.18, 0.13, 2.93),
    "2-RF": (0.134, 0.130, 0.129, 0.127, 0.128, 0.0013),
    "shuffled pairs": (2.78, 0.74, 0.28, 0.18, 0.14, 2.95),
}

CLAIMS = (
    Claim(
        "reflow, one step, plane",
        f"{PLANE}, one Euler step",
        "lower",
        Rule("improvement", low=8.0),
        paper="CIFAR-10 FID in one step: 378 before, 12.21 after one reflow (31 times)",
        ours_is="2-RF (offline pairs)",
        baseline_is="1-RF",
    ),
    Claim(
        "straightness, plane",
        "S = int E|(z1 - z0) - v(z_t, t)|^2 dt on ODE trajectories, N(0, I) to eight Gaussians",
        "lower",
        Rule("improvement", low=100.0),
        ours_is="2-RF (offline pairs)",
        baseline_is="1-RF",
    ),
    Claim(
        "control: shuffled pairs, plane",
        f"{PLANE}, one Euler step",
        "lower",
        Rule("improvement", high=1.2),
        ours_is="the same extra training on the same pairs, x0 shuffled",
        baseline_is="1-RF",
    ),
    Claim(
        "online reflow, one step, plane",
        f"{PLANE}, one Euler step",
        "lower",
        Rule("improvement", low=8.0),
        ours_is="2-RF (pairs drawn for every batch by 20 Euler steps of the averaged teacher)",
        baseline_is="1-RF",
    ),
    Claim(
        "distillation, one step, plane",
        f"{PLANE}, one Euler step",
        "lower",
        Rule("improvement", low=8.0),
        paper="CIFAR-10 FID in one step: 378 before, 6.18 after distillation of 1-RF (61 times)",
        ours_is="1-RF distilled to k=1",
        baseline_is="1-RF",
    ),
    Claim(
        "distillation, four steps, plane",
        f"{PLANE}, four Euler steps",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="1-RF distilled to k=4",
        baseline_is="1-RF",
    ),
    Claim(
        "reflow, one step, digits",
        f"{FD}, one Euler step",
        "lower",
        Rule("improvement", low=8.0),
        paper="CIFAR-10 FID in one step: 378 before, 12.21 after one reflow (31 times)",
        ours_is="2-RF (offline pairs)",
        baseline_is="1-RF",
    ),
    Claim(
        "straightness, digits",
        "S per trajectory, digits 8x8 in [-1, 1]",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="2-RF (offline pairs)",
        baseline_is="1-RF",
    ),
    Claim(
        "control: shuffled pairs, digits",
        f"{FD}, one Euler step",
        "lower",
        Rule("improvement", high=1.2),
        ours_is="the same extra training on the same pairs, x0 shuffled",
        baseline_is="1-RF",
    ),
    Claim(
        "distillation, one step, digits",
        f"{FD}, one Euler step",
        "lower",
        Rule("improvement", low=8.0),
        paper="CIFAR-10 FID in one step: 378 before, 6.18 after distillation of 1-RF (61 times)",
        ours_is="1-RF distilled to k=1 (squared error; the paper's distance is LPIPS)",
        baseline_is="1-RF",
    ),
    Claim(
        "what reflow costs at full simulation, digits",
        f"{FD}, 32 Heun steps",
        "lower",
        None,
        paper="CIFAR-10 FID with RK45: 2.58 for 1-RF, 3.36 for 2-RF",
        ours_is="2-RF (offline pairs)",
        baseline_is="1-RF",
    ),
    Claim(
        "domain transfer, clothing to digits",
        "energy distance of transferred held-out clothing (8x8, grey) to held-out digits, 32 Heun steps",
        "lower",
        Rule("improvement", low=8.0),
        ours_is="1-RF between the two sets, unpaired",
        baseline_is="the clothing as it is",
    ),
    Claim(
        "domain transfer, one step after reflow",
        "energy distance of transferred held-out clothing (8x8, grey) to held-out digits, one Euler step",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="2-RF (offline pairs)",
        baseline_is="1-RF",
    ),
)


def experiment(setting: Setting) -> Outcome:
    """The plane, the digits, and the transfer between two sets of pictures."""
    out = Outcome()
    _plane(setting, out)
    _digits(setting, out)
    _transfer(setting, out)
    return out


def _plane(setting: Setting, out: Outcome) -> None:
    data = EightGaussians()
    settings = TrainSettings(
        steps=setting.pick(4000, 300), batch_size=512, lr=2e-3, ema=ConstantEMA(0.999), device="cpu"
    )
    setting.say("plane: 1-RF")
    first = train(lambda spec: MLP(spec, hidden=(96, 96, 96)), data, settings=settings, seed=setting.seed)
    setting.say("plane: pairs, reflow, and the shuffled control")
    pairs = make_pairs(
        first,
        setting.pick(40_000, 3000),
        setting.folder / "plane",
        solver=RK4(),
        steps=setting.pick(40, 20),
        seed=setting.seed,
        batch_size=6000,
    )
    again = {"settings": settings, "seed": setting.seed + 1}
    second = reflow(first, pairs, **again)
    control = reflow(first, _shuffled(pairs, setting.seed), **again)
    setting.say("plane: online reflow and distillation")
    online = reflow_online(first, data, settings=settings.but(steps=setting.pick(2500, 150)), seed=setting.seed + 1)
    one = reflow(first, pairs, objective=KStep(1), **again)
    four = reflow(first, pairs, objective=KStep(4), **again)

    n, counts = setting.pick(8000, 2000), [1, 2, 4, 8, 50]
    target = data.draw(n, generator(setting.seed, "target"))
    distance = SlicedW2()
    flows = {"1-RF": first, "2-RF": second, "2-RF online": online, "shuffled pairs": control}
    samples = {
        name: [flow.sample(n, seed=setting.seed, solver=Euler(), steps=k, batch_size=n) for k in counts]
        for name, flow in flows.items()
    }
    error = {name: [distance(x, target, resamples=0).value for x in each] for name, each in samples.items()}
    distilled = {
        k: distance(flow.sample(n, seed=setting.seed, batch_size=n), target, resamples=0).value
        for k, flow in ((1, one), (4, four))
    }
    floor = distance(data.draw(n, generator(setting.seed, "floor")), target, resamples=0).value
    x0 = sources.Gaussian().sample((setting.pick(4000, 500), 2), generator=generator(setting.seed, "straightness"))
    bend = {name: float(straightness(flow.network, x0, 60)) for name, flow in flows.items()}

    before = error["1-RF"][0]
    out.values |= {
        "reflow, one step, plane": Measured(error["2-RF"][0], before, calls=1),
        "straightness, plane": Measured(bend["2-RF"], bend["1-RF"]),
        "control: shuffled pairs, plane": Measured(error["shuffled pairs"][0], before, calls=1),
        "online reflow, one step, plane": Measured(error["2-RF online"][0], before, calls=1),
        "distillation, one step, plane": Measured(distilled[1], before, calls=1),
        "distillation, four steps, plane": Measured(distilled[4], error["1-RF"][2], calls=4),
    }
    rows: list[tuple[str, list[float | None]]] = []
    for name, values in error.items():
        rows.append((name, [*values, bend[name]]))
        if name in REFERENCE:
            rows.append((f"{name}, reference run", list(REFERENCE[name])))
    rows.append(("two draws of the data", [floor] * len(counts) + [None]))
    title = "Sliced W2 at N Euler steps and straightness S on the plane, beside an independent run (one seed)"
    out.tables.append(Table("plane", title, ("net", *(f"N={k}" for k in counts), "S"), rows))
    lines = {name: ([float(k) for k in counts], values) for name, values in error.items()}
    lines["two draws of the data"] = ([1.0, 50.0], [floor, floor])
    out.curves.append(Curves("plane", "N(0, I) to eight Gaussians", "Euler steps", "sliced W2", lines, log="xy"))
    clouds = {f"{name}, one step": points_of(each[0]) for name, each in samples.items()}
    out.scatters.append(Scatter("plane-samples", "One Euler step", {"data": points_of(target), **clouds}))
    out.notes.append(f"plane: the floor of sliced W2 between two draws of the data is {floor:.3f} (seed 0)")


def _digits(setting: Setting, out: Outcome) -> None:
    digits = Digits()
    data = Tensors(all_images(digits, "train"))  # without classes, as in the paper
    settings = TrainSettings(steps=setting.pick(10_000, 500), batch_size=128, lr=2e-3, device="cpu")
    setting.say("digits: 1-RF")
    first = train(digits_network, data, settings=settings, seed=setting.seed)
    setting.say("digits: pairs, reflow, the shuffled control, distillation")
    pairs = make_pairs(
        first,
        setting.pick(20_000, 1000),
        setting.folder / "digits",
        solver=Heun(),
        steps=setting.pick(25, 8),
        seed=setting.seed,
    )
    again = {"settings": settings.but(steps=setting.pick(5000, 500), lr=1e-3), "seed": setting.seed + 1}
    second = reflow(first, pairs, **again)
    control = reflow(first, _shuffled(pairs, setting.seed), **again)
    one = reflow(first, pairs, objective=KStep(1), **again)

    n, counts = setting.pick(2000, 300), [1, 2, 4, 8, 32]
    real, distance = held_out(digits), FrechetDistance(SmallClassifier("digits"))
    flows = {"1-RF": first, "2-RF": second, "shuffled pairs": control}
    samples = {
        name: [flow.sample(n, seed=setting.seed, solver=Euler(), steps=k) for k in counts]
        for name, flow in flows.items()
    }
    error = {name: [distance(x, real, resamples=0).value for x in each] for name, each in samples.items()}
    single = one.sample(n, seed=setting.seed)
    full = {
        name: distance(flow.sample(n, seed=setting.seed, solver=Heun(), steps=32), real, resamples=0).value
        for name, flow in flows.items()
    }
    x0 = sources.Gaussian().sample((500, *data.shape), generator=generator(setting.seed, "straightness"))
    bend = {name: float(straightness(flow.network, x0, 30)) for name, flow in flows.items()}

    before = error["1-RF"][0]
    out.values |= {
        "reflow, one step, digits": Measured(error["2-RF"][0], before, calls=1),
        "straightness, digits": Measured(bend["2-RF"], bend["1-RF"]),
        "control: shuffled pairs, digits": Measured(error["shuffled pairs"][0], before, calls=1),
        "distillation, one step, digits": Measured(distance(single, real, resamples=0).value, before, calls=1),
        "what reflow costs at full simulation, digits": Measured(full["2-RF"], full["1-RF"], calls=64),
    }
    lines = {name: ([float(k) for k in counts], values) for name, values in error.items()}
    out.curves.append(
        Curves(
            "digits",
            "Digits 8x8: Frechet distance against Euler steps",
            "Euler steps",
            "FD[digits classifier]",
            lines,
            log="xy",
        )
    )
    strips = {f"{name}, one step": images_of(each[0]) for name, each in samples.items()}
    strips["1-RF distilled to one step"] = images_of(single)
    strips["1-RF, 32 steps"] = images_of(samples["1-RF"][-1])
    out.pictures.append(Pictures("digits-samples", "The same noise", strips))


def _transfer(setting: Setting, out: Outcome) -> None:
    setting.say("transfer from clothing to digits")
    digits = Digits()
    start = {split: small_grey(all_images(Clothing(), split)) for split in ("train", "test")}
    domains = TwoDomains(Tensors(start["train"]), Tensors(all_images(digits, "train")))
    settings = TrainSettings(steps=setting.pick(3000, 300), batch_size=128, lr=1e-3, device="cpu")
    first = train(
        digits_network,
        domains,
        settings=settings,
        seed=setting.seed,
    )
    pairs = make_pairs(
        first,
        setting.pick(20_000, 1000),
        setting.folder / "transfer",
        solver=Heun(),
        steps=setting.pick(25, 8),
        data=domains,
        seed=setting.seed,
    )
    second = reflow(first, pairs, settings=settings, seed=setting.seed + 1)

    x0, real, distance = start["test"], held_out(digits), EnergyDistance()
    ends = {
        "1-RF, 32 steps": first.sample(len(x0), x0=x0, solver=Heun(), steps=32),
        "1-RF, one step": first.sample(len(x0), x0=x0, solver=Euler(), steps=1),
        "2-RF, one step": second.sample(len(x0), x0=x0, solver=Euler(), steps=1),
    }
    error = {name: distance(x, real, resamples=0).value for name, x in ends.items()}
    out.values |= {
        "domain transfer, clothing to digits": Measured(
            error["1-RF, 32 steps"], distance(x0, real, resamples=0).value, calls=64
        ),
        "domain transfer, one step after reflow": Measured(error["2-RF, one step"], error["1-RF, one step"], calls=1),
    }
    strips = {"held-out clothing": images_of(x0)} | {name: images_of(x) for name, x in ends.items()}
    out.pictures.append(Pictures("transfer", "From clothing to digits, 8x8 grey", strips))


def _shuffled(pairs: StoredPairs, seed: int) -> Tensors:
    """The same pairs with x0 in another order."""
    batch = pairs.batch("train", torch.arange(pairs.size()))
    assert batch.x0 is not None
    order = randperm(pairs.size(), generator(seed, "shuffled"))
    return Tensors(batch.x1, x0=batch.x0[order], pictures=False)


SYSTEM = System(
    slug="rectified-flow",
    title="Rectified flow",
    paper="Liu, Gong, Liu: Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow, 2022",
    arxiv="2209.03003",
    purpose="Carries any data to any other along an ODE, and straightens it until one to four steps suffice.",
    seats={
        "source": (sources.Gaussian,),
        "coupling": (couplings.Independent, couplings.Paired),
        "interpolant": (interpolants.Linear,),
        "objective": (FlowMatching, OnlineReflow, KStep, distillation.OneStepEncoder),
        "data": (StoredPairs, TwoDomains),
        "times": (times.Uniform, times.LogitNormal, times.UShaped, times.FiniteSet),
        "network": (MLP,),
        "solver": (Euler, Heun, RK4, solvers.RectifiedSDE, solvers.Overshooting),
        "training": (train, make_pairs, reflow, reflow_online),
        "diagnostics": (straightness,),
    },
    claims=CLAIMS,
    experiment=experiment,
)
