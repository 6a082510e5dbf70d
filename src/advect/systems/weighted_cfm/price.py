"""What weights tilt: photographs of clothes come out paler, and what three sets of pictures would lose."""

from __future__ import annotations

import torch

from advect.batch import Batch
from advect.couplings import GibbsWeights, Independent
from advect.data import Clothing, Digits, Emoji, Tensors
from advect.diagnostics import tilt_of
from advect.fitting import FitGibbsScale
from advect.randomness import generator
from advect.solvers import Heun
from advect.sources import Gaussian
from advect.systems.framework import (
    Curves,
    Measured,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    bounded,
    compared,
    digits_network,
    small_grey,
    with_nearest,
)
from advect.systems.weighted_cfm.arms import ELBOW, PLAIN, mean_norm, trained
from advect.training import TrainSettings

CLAIMS = (
    compared(
        "the bias, clothing: paler pictures",
        "mean Euclidean norm of 2000 generated pictures (clothing, 8x8, grey), 32 Heun steps",
        ELBOW,
        PLAIN,
        low=1.0,
    ),
    bounded(
        "in high dimension a weight is mostly a tilt",
        "share of the variance of log weights that neither end explains alone, clothing 32x32 RGB",
        "all pairs of 1000 draws of each end",
        high=0.1,
    ),
)


def measure_bias(setting: Setting, out: Outcome) -> None:
    """What the tilt of the data does to samples, where pictures differ in norm."""
    real = small_grey(all_images(Clothing()))
    settings = TrainSettings(steps=setting.pick(4000, 300), batch_size=128, lr=2e-3, device="cpu")
    couplings = {PLAIN: Independent(), ELBOW: GibbsWeights()}
    flows = trained(setting, "clothing", digits_network, Tensors(real), couplings, settings)
    n = setting.pick(2000, 300)
    samples = {name: flow.sample(n, seed=setting.seed, solver=Heun(), steps=32) for name, flow in flows.items()}
    out.values["the bias, clothing: paler pictures"] = Measured(
        mean_norm(samples[ELBOW]), mean_norm(samples[PLAIN]), calls=64
    )
    norms = {name: x.flatten(1).norm(dim=1).cpu() for name, x in {"training pictures": real, **samples}.items()}
    edges = torch.linspace(0, 8, 33)
    middles = (0.5 * (edges[1:] + edges[:-1])).tolist()
    lines = {name: (middles, (4 * torch.histc(x, 32, 0.0, 8.0) / len(x)).tolist()) for name, x in norms.items()}
    out.curves.append(Curves("clothing-norms", "Clothing, 8x8 grey: norms", "norm of a picture", "density", lines))
    title = "Clothing, 8x8 grey: norms of 2000 samples, 32 Heun steps"
    rows = {name: [float(x.mean()), float(x.std())] for name, x in norms.items()}
    out.tables.append(Table.of("clothing-norms", title, ("pictures", "mean norm", "standard deviation"), rows))
    near = with_nearest(samples[ELBOW], real, f"{ELBOW}, 32 Heun steps")
    strips = {f"{PLAIN}, 32 Heun steps": samples[PLAIN], **near}
    out.pictures.append(Pictures.of("clothing-samples", "The same noise: clothing, 8x8 grey", strips))


def measure_tilts(setting: Setting, out: Outcome) -> None:
    """What the weights at the elbow do to real pictures, before any training."""
    setting.say("tilt of three sets of pictures")
    rows: dict[str, list[float | None]] = {}
    for name, data in (("digits 8x8", Digits()), ("clothing 32x32 RGB", Clothing()), ("emoji 32x32 RGB", Emoji())):
        x1 = all_images(data)
        coupling = FitGibbsScale()(None, Batch(x1), seed=setting.seed)
        draws = generator(setting.seed, "tilt", name)
        x1 = x1[torch.randperm(len(x1), generator=draws)[:1000]]
        x0 = Gaussian().sample(x1.shape, generator=draws)
        found = tilt_of(coupling, x0, x1)
        log_weight = coupling.log_weights(x0, x1).double()
        share = (log_weight - log_weight.max()).exp().sum(0)
        norm = x1.flatten(1).norm(dim=1).double()
        weighted = float((share * norm).sum() / share.sum())
        tilts = (found.ess, found.source, found.data, found.interaction_share)
        rows[name] = [coupling.eps, *tilts, float(norm.mean()), weighted]
        if name.startswith("clothing"):
            out.values["in high dimension a weight is mostly a tilt"] = Measured(found.interaction_share)
    title = "Gibbs weights at the elbow of the tilt variance, on real pictures in [-1, 1] and a Gaussian source"
    heads = ("pictures", "eps", "ESS", "tilt of x0", "tilt of x1", "interaction share", "mean norm", "weighted")
    out.tables.append(Table.of("tilts", title, heads, rows))
