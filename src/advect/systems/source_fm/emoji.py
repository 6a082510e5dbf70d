"""The flow for emoji that ships with advect: its noise is pruned, nothing is trained."""

from __future__ import annotations

import torch

from advect.batch import Batch
from advect.data import Emoji
from advect.encoders import SmallClassifier
from advect.fitting import FitPrunedSource
from advect.metrics import FrechetDistance
from advect.solvers import Euler
from advect.systems.framework import (
    Measured,
    Outcome,
    Pictures,
    Setting,
    all_images,
    compared,
    distance_to,
    held_out,
    shipped_flow,
    with_nearest,
)

CLAIM = compared(
    "pruned, shipped emoji flow, 10 steps",
    "FD[emoji classifier] against the held-out emoji, all classes in turn, 10 Euler steps",
    "200 principal axes of the training emoji, half of the draws kept; nothing retrained",
    "plain Gaussian, the same flow",
    low=1.0,
    paper="CIFAR-10 FID, Euler 10: 13.30 plain, 10.37 pruned; ImageNet 64: 18.84 and 16.70",
)
CLAIMS = (CLAIM,)


def measure(setting: Setting, out: Outcome) -> None:
    """The same seeds with and without pruning."""
    setting.say("emoji: axes and samples of the flow that ships")
    flow, emoji = shipped_flow("emoji"), Emoji()
    images = all_images(emoji)
    search = FitPrunedSource(axes=setting.pick(200, 20), draws=setting.pick(4000, 1000), flips=False)
    pruned = search(flow, Batch(images[: setting.pick(len(images), 300)]), seed=setting.seed)
    n = setting.pick(180, 27)
    label = torch.arange(n) % len(emoji.class_names or ())
    x = {
        name: flow.sample(n, seed=setting.seed, solver=Euler(), steps=10, source=source, label=label, batch_size=64)
        for name, source in (("plain", None), ("pruned", pruned))
    }
    distance = distance_to(FrechetDistance(SmallClassifier("emoji")), held_out(emoji))
    out.values[CLAIM.name] = Measured(distance(x["pruned"]), distance(x["plain"]), calls=10)
    strips = {"plain": x["plain"], **with_nearest(x["pruned"], images, "pruned")}
    out.pictures.append(Pictures.of("emoji-samples", "The flow that ships, 10 Euler steps, the same seeds", strips))
    out.notes.append(
        f"emoji: {len(pruned.rejected)} of 400 sides are empty, {100 * float(pruned.acceptance):.0f} % of the "
        f"draws pass at tau_inf = {pruned.tau:.4f} (seed 0)"
    )
