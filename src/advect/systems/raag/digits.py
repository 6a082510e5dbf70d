"""Handwritten digits: a flow that learned from wrong labels, judged by a classifier that saw none of its pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advect.data import Digits, Tensors
from advect.encoders import SmallClassifier, extract
from advect.encoders.classifier import ConvNet
from advect.encoders.training import train_classifier
from advect.fitting import FitRAAG
from advect.guidance import RAAG, Guidance
from advect.metrics import energy_distance
from advect.randomness import generator, rand, randint, randperm
from advect.solvers import Euler
from advect.systems.framework import (
    Measured,
    Outcome,
    Pictures,
    Setting,
    all_images,
    all_labels,
    compared,
    digits_network,
    held_out,
    with_nearest,
)
from advect.systems.raag import fronts
from advect.training import TrainSettings, train

ON = (
    "1000 digits, flow on half of the training pictures with 20 % wrong labels, accuracy by a classifier of the other "
    "half"
)
ED = f"energy distance[digits-cnn] to held-out digits at equal accuracy, mean over the common range, {ON}"
CLOSE = (
    "the ratio of this flow varies by less than a factor of two along the way, so the fronts of RAAG and of a constant "
    "scale lie close together, and which is nearer to the data depends on the settings that are swept"
)


CLAIMS = (
    compared(
        "fitted alpha, digits",
        f"accuracy, 10 Euler steps, {ON}",
        "RAAG with alpha fitted to the flow's ratios (scale 4 at the first step)",
        "plain sampling",
        low=1.0,
        better="higher",
    ),
    compared(
        "published alpha, digits",
        f"accuracy, 10 Euler steps, {ON}",
        "RAAG 18, alpha 12",
        "RAAG 18 with alpha fitted",
        better="higher",
    ),
    *fronts.claims("digits", ED, CLOSE),
)


def measure(setting: Setting, out: Outcome) -> None:
    """What a fitted alpha gives, then the fronts."""
    seed, digits = setting.seed, Digits()
    images, labels = all_images(digits), all_labels(digits)
    order = randperm(len(images), generator(seed, "halves"))
    ours, other = order[: len(order) // 2], order[len(order) // 2 :]
    wrong = rand((len(ours),), generator(seed, "which are wrong")) < 0.2
    told = torch.where(wrong, randint(10, (len(ours),), generator(seed, "wrong labels")), labels[ours])

    setting.say("digits: a flow on one half with wrong labels, a classifier on the other")
    settings = TrainSettings(steps=setting.pick(4000, 400), batch_size=128, lr=2e-3, device="cpu")
    flow = train(digits_network, Tensors(images[ours], told), drop=0.1, settings=settings, seed=seed)
    flow.sampler = flow.sampler.but(solver=Euler(), steps=10)
    real, truth = held_out(digits), torch.cat([all_labels(digits, "validation"), all_labels(digits, "test")])
    judge = train_classifier(images[other], labels[other], epochs=setting.pick(40, 8), seed=seed, purpose=("judge",))
    right = float((_classes(judge, real) == truth).double().mean())
    out.notes.append(f"digits: the classifier of the other half is right on {right:.3f} of held-out digits (seed 0)")

    n = setting.pick(1000, 200)
    label = torch.arange(n) % 10
    eyes = SmallClassifier("digits")  # features alone: it has seen both halves, so it does not judge classes here
    features = extract(eyes, real)

    def sample(rule: Guidance | None, steps: int) -> Tensor:
        rules = () if rule is None else (rule,)
        return flow.sample(n, seed=seed, steps=steps, guidance=rules, batch_size=n, label=label)

    def accuracy(x: Tensor) -> float:
        return float((_classes(judge, x) == label).double().mean())

    def measured(rule: Guidance | None, steps: int) -> tuple[float, float]:
        x = sample(rule, steps)
        return accuracy(x), float(energy_distance(extract(eyes, x), features))

    setting.say("digits: ratios and fronts")
    fitted = FitRAAG(samples=n)(flow, seed=seed)
    times, medians, means = (list(column) for column in zip(*fitted.measured, strict=True))
    fronts.show_ratios(out, "digits", times, medians, means)
    out.notes.append(f"digits: first ratio {medians[0]:.3f} (median), so alpha {fitted.alpha:.2f} for scale 4 (seed 0)")
    with_fitted = accuracy(sample(fitted, 10))
    out.values |= {
        "fitted alpha, digits": Measured(with_fitted, accuracy(sample(None, 10)), calls=10),
        "published alpha, digits": Measured(accuracy(sample(RAAG(), 10)), with_fitted, calls=10),
    }
    swept = fronts.sweep(measured, fronts.sweeps(medians[0], setting.quick))
    fronts.compare(out, swept, "digits", "energy distance of features")
    _show(out, swept, sample, images[ours])


def _show(
    out: Outcome, swept: fronts.Swept, sample: Callable[[Guidance | None, int], Tensor], training: Tensor
) -> None:
    """The same noise under every rule, at the accuracy that all of them reach in 10 steps."""
    level = min(front[10].high for front in swept.fronts.values())
    strips: dict[str, Any] = {"plain": sample(None, 10)}
    for rule, front in swept.fronts.items():
        name = front[10].nearest(level).name
        x = sample(swept.rules[rule].get(name), 10)
        strips |= with_nearest(x, training, f"RAAG, {name}") if rule == "RAAG" else {f"{rule}, {name}": x}
    title = f"Digits 0 to 9 twice, 10 steps, the same noise; settings nearest to accuracy {level:.3f}"
    out.pictures.append(Pictures.of("digits-samples", title, strips))


@torch.no_grad()
def _classes(judge: ConvNet, images: Tensor) -> Tensor:
    return judge(images).argmax(1)
