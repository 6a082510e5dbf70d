"""Handwritten digits as a whole: two networks of flow matching, two heads, and a head on a frozen flow."""

from __future__ import annotations

from collections.abc import Iterable

from advect import networks
from advect.data import Digits, Tensors
from advect.networks import MLP, FieldKernel, MLPKernel, PlainHead
from advect.objectives import DTM
from advect.systems.framework import (
    Figures,
    Measured,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    compared,
    judged_digits,
    with_nearest,
)
from advect.systems.transition_matching.arms import PUBLISHED, better, chain
from advect.training import TrainSettings, train

FD = "FD[digits classifier], 1000 samples against the held-out digits"
COUNTS = (1, 2, 4, 8, 34)
BEST = "flow matching, the better of two networks and of Euler and Heun, at"
FROZEN = "DTM, joint head on the frozen flow"

CLAIMS = (
    *(
        compared(
            f"digits, {count} backbone call{'' if count == 1 else 's'}",
            f"{FD}; 16 inner Euler steps",
            "DTM, the better of a joint head and a head per 2x2 patch",
            f"{BEST} {count}",
            low=1.0,
            paper=PUBLISHED,
            cause="at four calls flow matching under Heun's rule is as good" if count == 4 else "",
        )
        for count in (1, 2, 4)
    ),
    compared("digits, equal calls in total", f"{FD}; 34 calls", "DTM, 2 backbone and 32 head calls", f"{BEST} 34"),
    compared(
        "digits, head on a frozen flow",
        f"{FD}, 2 backbone calls; 16 inner Euler steps",
        "DTM, joint head trained on the frozen backbone of the flow",
        "the flow itself, the better of Euler and Heun, at 2 calls",
        low=1.0,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Frechet distance by backbone calls."""
    digits = Digits()
    pictures, distance, n = all_images(digits), judged_digits(digits), setting.pick(1000, 200)
    settings = TrainSettings(steps=setting.pick(2000, 150), batch_size=128, lr=2e-3, device="cpu")
    data, own = Tensors(pictures), {"settings": settings, "seed": setting.seed}
    setting.say("digits: two networks of flow matching")
    flows = {
        "4 x 256": train(lambda spec: MLP(spec, hidden=(256,) * 4), data, **own),
        "6 x 256, residual": train(lambda spec: MLP(spec, hidden=(256,) * 6, residual=True), data, **own),
    }
    setting.say("digits: DTM with a joint head, and with a head per patch")
    # backbone and head are six layers on each other: plain ones of that depth hardly train, whatever the objective
    kernels = {
        name: train(
            lambda spec, head=head, patch=patch: MLPKernel(
                spec, (256,) * 4, residual=True, head=PlainHead(head), patch=patch
            ),
            data,
            objective=DTM(),
            **own,
        )
        for name, head, patch in (("joint head", (256, 256), None), ("head per 2x2 patch", (64, 64), 2))
    }
    setting.say("digits: a head on the frozen flow")
    network = flows["4 x 256"].network
    assert isinstance(network, networks.Network)
    frozen = train(
        lambda spec: FieldKernel(network, PlainHead((256, 256))),
        data,
        objective=DTM(),
        settings=settings,
        seed=setting.seed + 1,
    )

    plain = {f"flow matching, {name}": [better(flow, n, k, distance) for k in COUNTS] for name, flow in flows.items()}
    drawn = {f"DTM, {name}": [chain(kernel, n, k, 16) for k in COUNTS[:4]] for name, kernel in kernels.items()}
    on_frozen = {FROZEN: [chain(frozen, n, k, 16) for k in COUNTS[:4]]}
    error = Figures.of(distance, COUNTS, plain | drawn | on_frozen)

    def best(arms: Iterable[str], k: int) -> str:
        return min(arms, key=lambda arm: error.at(arm, k))

    for k in (1, 2, 4):
        name = f"digits, {k} backbone call{'' if k == 1 else 's'}"
        out.values[name] = error.against(best(drawn, k), best(plain, k), k, calls=17 * k)
    out.values["digits, equal calls in total"] = Measured(
        error.at(best(drawn, 2), 2), error.at(best(plain, 34), 34), calls=34
    )
    out.values["digits, head on a frozen flow"] = error.against(FROZEN, "flow matching, 4 x 256", 2, calls=34)
    columns = ("arm, 16 head calls per backbone call", *(f"{k} backbone" for k in COUNTS))
    out.tables.append(Table.of("digits", f"Digits: {FD}, by backbone calls", columns, error.arms))
    at_2 = {arm: each[COUNTS.index(2)] for arm, each in drawn.items()}
    near = with_nearest(at_2["DTM, joint head"], pictures, "DTM, joint head, 2 backbone x 16 head calls")
    strips = {"DTM, head per patch, 2 backbone x 16 head calls": at_2["DTM, head per 2x2 patch"]}
    strips |= {f"flow matching, {k} calls": plain[best(plain, k)][COUNTS.index(k)] for k in (2, 34)}
    out.pictures.append(Pictures.of("digits-samples", "Digits, classes not given", {**near, **strips}))
