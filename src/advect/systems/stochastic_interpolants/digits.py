"""Handwritten digits with classes: the noise is chosen after training."""

from __future__ import annotations

import torch

from advect.data import Digits
from advect.systems.framework import (
    Figures,
    Measured,
    Outcome,
    Pictures,
    Setting,
    compared,
    digits_network,
    judged_digits,
)
from advect.systems.stochastic_interpolants.noise import sample, train_both
from advect.training import TrainSettings

LEVELS = (0.0, 0.02, 0.1, 0.5)

CLAIMS = (
    compared(
        "noise after training, digits",
        "FD[digits classifier], 2000 samples against the held-out digits, 200 steps",
        "SDE at the best of e = 0.02, 0.1, 0.5",
        "the ODE of the same b network",
        low=1.0,
        paper="SiT-XL, ImageNet 256: the SDE beats the ODE of the same network (FID-50K 2.06 at best)",
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Frechet distance by noise level at few and at many steps."""
    setting.say("digits: b and eta")
    data = Digits()
    settings = TrainSettings(steps=setting.pick(4000, 150), batch_size=128, lr=1e-3, device="cpu")
    flow = train_both(digits_network, data, settings, setting.seed)
    setting.say("digits: sampling")
    n = setting.pick(2000, 200)
    labels = torch.arange(n) % 10
    samples = {
        f"{steps} steps": [sample(flow, n, e, steps, setting.seed, label=labels) for e in LEVELS] for steps in (25, 200)
    }
    fd = Figures.of(judged_digits(data), LEVELS, samples)
    best = min(LEVELS[1:], key=lambda e: fd.at("200 steps", e))
    out.values[CLAIMS[0].name] = Measured(fd.at("200 steps", best), fd.at("200 steps", 0.0), calls=400)
    title = "Digits 8x8: the noise is chosen after training"
    out.curves.append(fd.curves("digits", title, "e", "FD[digits classifier]", log=""))
    strips = {f"e={e:g}, 200 steps": x for e, x in zip(LEVELS, samples["200 steps"], strict=True)}
    out.pictures.append(Pictures.of("digits-samples", "The same networks and starting noise", strips))
