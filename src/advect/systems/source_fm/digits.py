"""Handwritten digits: norm-aligned and pruned sources, alone and together, beside a time shift."""

from __future__ import annotations

from advect.batch import Batch
from advect.data import Digits, Tensors
from advect.fitting import FitPrunedSource
from advect.flow import Flow
from advect.objectives import FlowMatching
from advect.solvers import Euler
from advect.sources import NormAligned, Source
from advect.systems.framework import (
    Figures,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    compared,
    digits_network,
    judged_digits,
    with_nearest,
)
from advect.systems.source_fm.paper import CIFAR10
from advect.times import ShiftedGrid, ShiftedTimes, TimeGrid, Uniform
from advect.training import TrainSettings, train
from advect.transport import Transport

FD = "FD[digits classifier] against the held-out digits, no classes given, Euler"
COUNTS = (5, 10, 20, 100)
BOTH, PLAIN = "trained from c z, c = E|x1|/E|z|, and pruned at sampling", "plain Gaussian"
SHIFTED = "plain, trained and stepped at shifted times"

CLAIMS = (
    *(
        compared(
            f"pruned, digits, {k} steps",
            f"{FD}, {k} steps",
            "axes fitted to the training digits, half of the draws kept; same network",
            PLAIN,
            low=1.0,
            paper=f"CIFAR-10 FID: {CIFAR10[k][0]} plain, {CIFAR10[k][1]} pruned",
            cause="single runs differ by some percent between seeds, as much as pruning moves them",
        )
        for k in COUNTS
    ),
    compared(
        "norm-aligned and pruned, digits, 100 steps",
        f"{FD}, 100 steps",
        BOTH,
        PLAIN,
        low=1.0,
        paper="CIFAR-10 FID: 4.35 plain, 3.64 aligned and pruned",
        cause="digits are nearly as long as the noise (c = .85; .49 on CIFAR-10), so there is little to align",
    ),
    compared(
        "norm-aligned and pruned, digits, 5 steps",
        f"{FD}, 5 steps",
        BOTH,
        PLAIN,
        high=1.0,
        paper="CIFAR-10 FID: 34.49 plain, 48.10 aligned and pruned (worse)",
        cause="digits are nearly as long as noise (c = .85; .49 on CIFAR-10): no loss at few steps shows at this c",
    ),
    compared(
        "norm-aligned against a time shift, digits, 20 steps",
        f"{FD}, 20 steps",
        "trained from c z",
        "plain Gaussian, trained and stepped at the times t / (t + c (1 - t))",
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Three trained flows, each from its own source and from pruned ones."""
    digits = Digits()
    images = all_images(digits)
    data = Tensors(images)  # without classes, as in the paper
    settings = TrainSettings(steps=setting.pick(3000, 300), batch_size=128, lr=2e-3, device="cpu")
    own = {"settings": settings, "seed": setting.seed}
    setting.say("digits: plain, norm-aligned, and plain at shifted times")
    plain = train(digits_network, data, **own)
    aligned = train(digits_network, data, transport=Transport(NormAligned()), **own)
    assert isinstance(aligned.transport.source, NormAligned)
    c = aligned.transport.source.std
    shifted = train(digits_network, data, objective=FlowMatching(ShiftedTimes(Uniform(), c)), **own)
    search, batch = FitPrunedSource(flips=False), Batch(images)  # digits were not mirrored in training
    part = search(plain, batch)
    strict, loose = (FitPrunedSource(flips=False, target_accept=a)(plain, batch) for a in (0.25, 0.75))

    setting.say("digits: sampling")
    n = setting.pick(1200, 300)
    runs: dict[str, tuple[Flow, Source | None, bool]] = {
        "plain": (plain, None, False),
        "plain, pruned": (plain, part, False),
        "plain, pruned, 25 % kept": (plain, strict, False),
        "plain, pruned, 75 % kept": (plain, loose, False),
        "plain, shifted grid": (plain, None, True),
        SHIFTED: (shifted, None, True),
        "norm-aligned": (aligned, None, False),
        "norm-aligned, pruned": (aligned, search(aligned, batch), False),
    }
    samples = {
        name: [
            flow.sample(n, seed=setting.seed, solver=Euler(), grid=ShiftedGrid(k, c) if shift else TimeGrid(k),
                        source=source, batch_size=n)
            for k in COUNTS
        ]
        for name, (flow, source, shift) in runs.items()
    }  # fmt: skip
    error = Figures.of(judged_digits(digits), COUNTS, samples)
    out.values |= {f"pruned, digits, {k} steps": error.against("plain, pruned", "plain", k) for k in COUNTS}
    for k in (5, 100):
        name = f"norm-aligned and pruned, digits, {k} steps"
        out.values[name] = error.against("norm-aligned, pruned", "plain", k)
    name = "norm-aligned against a time shift, digits, 20 steps"
    out.values[name] = error.against("norm-aligned", SHIFTED, 20)
    title = "Digits 8x8: FD[digits classifier] by Euler steps"
    out.tables.append(Table.of("digits", title, ("source", *(f"N={k}" for k in COUNTS)), error.arms))
    out.curves.append(error.curves("digits", "Digits 8x8 by source", "Euler steps", "FD[digits classifier]"))
    at_20 = {name: each[COUNTS.index(20)] for name, each in samples.items()}
    strips = {name: at_20[name] for name in ("plain", "plain, pruned", "norm-aligned")}
    near = with_nearest(at_20["norm-aligned, pruned"], images, "norm-aligned, pruned")
    out.pictures.append(Pictures.of("digits-samples", "The same noise, 20 Euler steps", {**strips, **near}))
    out.notes.append(
        f"digits: c = {c:.3f}; {len(part.rejected)} sides of principal axes are empty, "
        f"{100 * float(part.acceptance):.0f} % of the draws pass at tau_inf = {part.tau:.3f} (seed 0)"
    )
