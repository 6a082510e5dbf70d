"""Handwritten digits: reflow, its control, distillation, and what reflow costs where steps are many."""

from __future__ import annotations

from advect import sources
from advect.data import Digits, Tensors
from advect.diagnostics import straightness
from advect.distillation import KStep
from advect.randomness import generator
from advect.solvers import Euler, Heun
from advect.systems.framework import (
    Figures,
    Measured,
    Outcome,
    Pictures,
    Setting,
    all_images,
    compared,
    digits_network,
    judged_digits,
)
from advect.systems.rectified_flow.arms import DISTILLED, OFFLINE, REFLOWED, SHUFFLED, shuffled
from advect.training import TrainSettings, make_pairs, reflow, train

FD = "FD[digits classifier], 2000 samples against the held-out digits, no classes given"
ONE = f"{FD}, one Euler step"
COUNTS = (1, 2, 4, 8, 32)

CLAIMS = (
    compared("reflow, one step, digits", ONE, OFFLINE, "1-RF", low=8.0, paper=REFLOWED),
    compared("straightness, digits", "S per trajectory, digits 8x8 in [-1, 1]", OFFLINE, "1-RF", low=1.0),
    compared("control: shuffled pairs, digits", ONE, SHUFFLED, "1-RF", high=1.2),
    compared(
        "distillation, one step, digits",
        ONE,
        "1-RF distilled to k=1 (squared error; the paper's distance is LPIPS)",
        "1-RF",
        low=8.0,
        paper=DISTILLED,
    ),
    compared(
        "what reflow costs at full simulation, digits",
        f"{FD}, 32 Heun steps",
        OFFLINE,
        "1-RF",
        paper="CIFAR-10 FID with RK45: 2.58 for 1-RF, 3.36 for 2-RF",
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Frechet distance by Euler steps and under full simulation, and straightness."""
    digits, seed = Digits(), setting.seed
    data = Tensors(all_images(digits))  # without classes, as in the paper
    settings = TrainSettings(steps=setting.pick(10_000, 500), batch_size=128, lr=2e-3, device="cpu")
    setting.say("digits: 1-RF")
    first = train(digits_network, data, settings=settings, seed=seed)
    setting.say("digits: pairs, reflow, the shuffled control, distillation")
    count, folder, steps = setting.pick(20_000, 1000), setting.folder / "digits", setting.pick(25, 8)
    pairs = make_pairs(first, count, folder, solver=Heun(), steps=steps, seed=seed)
    again = {"settings": settings.but(steps=setting.pick(5000, 500), lr=1e-3), "seed": seed + 1}
    second = reflow(first, pairs, **again)
    control = reflow(first, shuffled(pairs, seed), **again)
    one = reflow(first, pairs, objective=KStep(1), **again)

    n, distance = setting.pick(2000, 300), judged_digits(digits)
    flows = {"1-RF": first, "2-RF": second, "shuffled pairs": control}
    samples = {
        name: [flow.sample(n, seed=seed, solver=Euler(), steps=k) for k in COUNTS] for name, flow in flows.items()
    }
    error, single = Figures.of(distance, COUNTS, samples), one.sample(n, seed=seed)
    full = {name: distance(flows[name].sample(n, seed=seed, solver=Heun(), steps=32)) for name in ("1-RF", "2-RF")}
    x0 = sources.Gaussian().sample((500, *data.shape), generator=generator(seed, "straightness"))
    bend = {name: float(straightness(flow.network, x0, 30)) for name, flow in flows.items()}
    out.values |= {
        "reflow, one step, digits": error.against("2-RF", "1-RF", 1),
        "straightness, digits": Measured(bend["2-RF"], bend["1-RF"]),
        "control: shuffled pairs, digits": error.against("shuffled pairs", "1-RF", 1),
        "distillation, one step, digits": Measured(distance(single), error.at("1-RF", 1), calls=1),
        "what reflow costs at full simulation, digits": Measured(full["2-RF"], full["1-RF"], calls=64),
    }
    title = "Digits 8x8: Frechet distance against Euler steps"
    out.curves.append(error.curves("digits", title, "Euler steps", "FD[digits classifier]"))
    strips = {f"{name}, one step": each[0] for name, each in samples.items()}
    strips |= {"1-RF distilled to one step": single, "1-RF, 32 steps": samples["1-RF"][-1]}
    out.pictures.append(Pictures.of("digits-samples", "The same noise", strips))
