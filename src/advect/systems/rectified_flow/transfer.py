"""From photographs of clothes to handwritten digits, unpaired: any data at either end."""

from __future__ import annotations

from advect.data import Clothing, Digits, Tensors, TwoDomains
from advect.metrics import EnergyDistance
from advect.solvers import Euler, Heun
from advect.systems.framework import (
    Measured,
    Outcome,
    Pictures,
    Setting,
    all_images,
    compared,
    digits_network,
    distance_to,
    held_out,
    small_grey,
)
from advect.systems.rectified_flow.arms import OFFLINE
from advect.training import TrainSettings, make_pairs, reflow, train

ENERGY = "energy distance of transferred held-out clothing (8x8, grey) to held-out digits"

CLAIMS = (
    compared(
        "domain transfer, clothing to digits",
        f"{ENERGY}, 32 Heun steps",
        "1-RF between the two sets, unpaired",
        "the clothing as it is",
        low=8.0,
    ),
    compared("domain transfer, one step after reflow", f"{ENERGY}, one Euler step", OFFLINE, "1-RF", low=1.0),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Held-out clothes as starts, before and after reflow."""
    setting.say("transfer from clothing to digits")
    digits = Digits()
    start, x0 = (small_grey(all_images(Clothing(), split)) for split in ("train", "test"))
    domains = TwoDomains(Tensors(start), Tensors(all_images(digits)))
    settings = TrainSettings(steps=setting.pick(3000, 300), batch_size=128, lr=1e-3, device="cpu")
    first = train(digits_network, domains, settings=settings, seed=setting.seed)
    count, folder, steps = setting.pick(20_000, 1000), setting.folder / "transfer", setting.pick(25, 8)
    pairs = make_pairs(first, count, folder, solver=Heun(), steps=steps, data=domains, seed=setting.seed)
    second = reflow(first, pairs, settings=settings, seed=setting.seed + 1)

    ends = {
        "1-RF, 32 steps": first.sample(len(x0), x0=x0, solver=Heun(), steps=32),
        "1-RF, one step": first.sample(len(x0), x0=x0, solver=Euler(), steps=1),
        "2-RF, one step": second.sample(len(x0), x0=x0, solver=Euler(), steps=1),
    }
    distance = distance_to(EnergyDistance(), held_out(digits))
    error = {name: distance(x) for name, x in ends.items()}
    out.values |= {
        "domain transfer, clothing to digits": Measured(error["1-RF, 32 steps"], distance(x0), calls=64),
        "domain transfer, one step after reflow": Measured(error["2-RF, one step"], error["1-RF, one step"], calls=1),
    }
    strips = {"held-out clothing": x0, **ends}
    out.pictures.append(Pictures.of("transfer", "From clothing to digits, 8x8 grey", strips))
