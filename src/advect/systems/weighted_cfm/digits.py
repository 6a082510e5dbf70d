"""Handwritten digits at the elbow of the tilt variance and beside it."""

from __future__ import annotations

import torch

from advect.batch import Batch
from advect.couplings import Coupling, GibbsWeights, Independent, MinibatchOT
from advect.data import Digits, Tensors
from advect.diagnostics import straightness, tilt_of
from advect.fitting import FitGibbsScale
from advect.randomness import generator
from advect.solvers import Euler
from advect.sources import Gaussian
from advect.systems.framework import (
    Figures,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    compared,
    digits_network,
    held_out,
    judged_digits,
    with_nearest,
)
from advect.systems.weighted_cfm.arms import COUNTS, ELBOW, EXACT, PLAIN, mean_norm, trained
from advect.training import TrainSettings

FD = "FD[digits classifier], 2000 samples against the held-out digits, no classes given"

CLAIMS = (
    compared("one step, digits", f"{FD}, one Euler step", ELBOW, PLAIN, low=1.0),
    compared(
        "50 steps, digits",
        f"{FD}, 50 Euler steps",
        ELBOW,
        PLAIN,
        low=1.0,
        paper="CIFAR-10 FID at 50 Euler steps: 10.87 for I-CFM, 10.53 for W-CFM (1.03 times)",
        cause="the weights tilt both ends: the field starts from a reweighted source, and sampling does not",
    ),
    compared(
        "50 steps beside exact pairing, digits",
        f"{FD}, 50 Euler steps",
        ELBOW,
        EXACT,
        low=1.0,
        paper="CIFAR-10 FID at 50 Euler steps: 11.03 for OT-CFM, 10.53 for W-CFM (1.05 times)",
        cause="the weights tilt both ends, exact pairing in the batch neither",
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Frechet distance by Euler steps, with straightness, length of the samples and what the weights tilt."""
    digits = Digits()
    real = all_images(digits)
    data = Tensors(real)  # without classes, as in the paper
    eps = FitGibbsScale()(None, Batch(data.batch("train", torch.arange(data.size())).x1), seed=setting.seed).eps
    assert eps is not None
    settings = TrainSettings(steps=setting.pick(5000, 300), batch_size=128, lr=2e-3, device="cpu")
    scales = {"W-CFM, twice the elbow": 2 * eps, ELBOW: eps, "W-CFM, half the elbow": eps / 2}
    weights = {name: GibbsWeights(eps=scale) for name, scale in scales.items()}
    couplings: dict[str, Coupling] = {PLAIN: Independent(), **weights, EXACT: MinibatchOT()}
    flows = trained(setting, "digits", digits_network, data, couplings, settings)

    n = setting.pick(2000, 300)
    samples = {
        name: [flow.sample(n, seed=setting.seed, solver=Euler(), steps=k) for k in COUNTS]
        for name, flow in flows.items()
    }
    error = Figures.of(judged_digits(digits), COUNTS, samples)
    out.values |= {
        "one step, digits": error.against(ELBOW, PLAIN, 1),
        "50 steps, digits": error.against(ELBOW, PLAIN, 50),
        "50 steps beside exact pairing, digits": error.against(ELBOW, EXACT, 50),
    }
    x0 = Gaussian().sample((500, *data.shape), generator=generator(setting.seed, "straightness"))
    ends = Gaussian().sample(real[:1000].shape, generator=generator(setting.seed, "tilt")), real[:1000]
    rows: dict[str, list[float | None]] = {}
    for name, flow in flows.items():
        rows[name] = [*error.arms[name], float(straightness(flow.network, x0, 30)), mean_norm(samples[name][-1])]
        if name in weights:
            found = tilt_of(weights[name], *ends)
            rows[name] += [found.source, found.data, found.ess]
    rows["held-out digits"] = [*[None] * (len(COUNTS) + 1), mean_norm(held_out(digits))]
    title = f"Digits 8x8: FD[digits classifier] at N Euler steps; the elbow is at eps={eps:.3g} in seed {setting.seed}"
    heads = ("net", *(f"N={k}" for k in COUNTS), "S", "mean norm", "tilt of x0", "tilt of x1", "ESS")
    out.tables.append(Table.of("digits", title, heads, rows))
    title = "Digits 8x8: Frechet distance"
    out.curves.append(error.curves("digits", title, "Euler steps", "FD[digits classifier]"))
    strips = {f"{name}, one step": each[0] for name, each in samples.items()}
    strips |= {f"{name}, 50 steps": samples[name][-1] for name in (PLAIN, EXACT)}
    near = with_nearest(samples[ELBOW][-1], real, f"{ELBOW}, 50 steps")
    out.pictures.append(Pictures.of("digits-samples", "The same noise", {**strips, **near}))
