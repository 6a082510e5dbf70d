"""Weighted flow matching: the straightness of transport couplings from weights on independent pairs.

Measured on the plane (a Gaussian to eight Gaussians) at three scales beside independent and exactly paired training, on
handwritten digits and on photographs of clothes, with what the weights tilt, which is their price. On real pictures the
scale is the elbow of the tilt variance, found before anything is trained.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from advect.batch import Batch
from advect.couplings import Coupling, GibbsWeights, Independent, MinibatchOT
from advect.couplings.tilt import effective_share
from advect.data import Clothing, Digits, EightGaussians, Emoji, Tensors
from advect.diagnostics import straightness, tilt_of
from advect.encoders import SmallClassifier
from advect.fitting import FitGibbsScale
from advect.interpolants import Linear
from advect.metrics import FrechetDistance, SlicedW2
from advect.networks import MLP, NetSpec
from advect.objectives import FlowMatching
from advect.objectives.bare_step import training_step
from advect.randomness import generator
from advect.solvers import RK4, Euler, Heun
from advect.sources import Gaussian
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
    with_nearest,
)
from advect.training import ConstantEMA, TrainSettings, train
from advect.transport import Transport

PLANE = "sliced W2, N(0, I) to eight Gaussians, 8000 samples"
FD = "FD[digits classifier], 2000 samples against the held-out digits, no classes given"
PLAIN, EXACT = "I-CFM", "OT-CFM (exact, in the batch)"
COUNTS = [1, 2, 4, 8, 50]

# sliced W2 at 1, 2, 4, 8, 50 Euler steps, straightness S and effective sample size: one independent run, 4000 steps
REFERENCE: dict[str, tuple[float | None, ...]] = {
    PLAIN: (2.70, 0.71, 0.28, 0.16, 0.12, 2.96, 1.0),
    "W-CFM, kappa=2": (2.10, 0.45, 0.25, 0.16, 0.13, 1.74, 0.88),
    "W-CFM, kappa=1": (1.64, 0.37, 0.24, 0.18, 0.15, 1.03, 0.60),
    "W-CFM, kappa=0.5": (1.07, 0.33, 0.28, 0.25, 0.23, 0.39, 0.15),
    EXACT: (0.23, 0.18, 0.14, 0.13, 0.12, 0.02, None),
}

CLAIMS = (
    Claim(
        "straightness, plane",
        "S = int E|(z1 - z0) - v(z_t, t)|^2 dt on ODE trajectories, N(0, I) to eight Gaussians",
        "lower",
        Rule("improvement", low=2.5),
        ours_is="W-CFM, kappa=1",
        baseline_is=PLAIN,
    ),
    Claim(
        "one step, plane",
        f"{PLANE}, one Euler step",
        "lower",
        Rule("improvement", low=1.5),
        ours_is="W-CFM, kappa=1",
        baseline_is=PLAIN,
    ),
    Claim(
        "four steps, plane",
        f"{PLANE}, four Euler steps",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="W-CFM, kappa=1",
        baseline_is=PLAIN,
    ),
    Claim(
        "the bias, plane: worse at many steps",
        f"{PLANE}, 50 Euler steps",
        "lower",
        Rule("improvement", high=0.75),
        ours_is="W-CFM, kappa=0.5",
        baseline_is=PLAIN,
    ),
    Claim(
        "exact pairing wins in the plane",
        f"{PLANE}, one Euler step",
        "lower",
        Rule("improvement", high=0.5),
        ours_is="W-CFM, kappa=1",
        baseline_is=EXACT,
    ),
    Claim(
        "effective sample size, plane",
        "(sum w)^2 / (n sum w^2) of 200,000 pairs",
        "higher",
        Rule("ours", low=0.59, high=0.61),
        ours_is="W-CFM, kappa=1",
    ),
    Claim(
        "what a weight costs",
        "processor time of a training step, three layers of 96, batch 256, ms (median over interleaved rounds)",
        "lower",
        Rule("improvement", low=1 / 1.05),
        ours_is="W-CFM, kappa=1",
        baseline_is=PLAIN,
        cause="a bare step of this network takes a millisecond, in which the dozen small operations of weight, "
        "weighted loss and log take some .08 ms; on pictures of 1x28x28 they are three percent (benchmark `weights`)",
    ),
    Claim(
        "one step, digits",
        f"{FD}, one Euler step",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="W-CFM at the elbow",
        baseline_is=PLAIN,
    ),
    Claim(
        "50 steps, digits",
        f"{FD}, 50 Euler steps",
        "lower",
        Rule("improvement", low=1.0),
        paper="CIFAR-10 FID at 50 Euler steps: 10.87 for I-CFM, 10.53 for W-CFM (1.03 times)",
        ours_is="W-CFM at the elbow",
        baseline_is=PLAIN,
        cause="the weights tilt both ends: the field starts from a reweighted source, and sampling does not",
    ),
    Claim(
        "50 steps beside exact pairing, digits",
        f"{FD}, 50 Euler steps",
        "lower",
        Rule("improvement", low=1.0),
        paper="CIFAR-10 FID at 50 Euler steps: 11.03 for OT-CFM, 10.53 for W-CFM (1.05 times)",
        ours_is="W-CFM at the elbow",
        baseline_is=EXACT,
        cause="the weights tilt both ends, exact pairing in the batch neither",
    ),
    Claim(
        "the bias, clothing: paler pictures",
        "mean Euclidean norm of 2000 generated pictures (clothing, 8x8, grey), 32 Heun steps",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="W-CFM at the elbow",
        baseline_is=PLAIN,
    ),
    Claim(
        "in high dimension a weight is mostly a tilt",
        "share of the variance of log weights that neither end explains alone, clothing 32x32 RGB",
        "lower",
        Rule("ours", high=0.1),
        ours_is="all pairs of 1000 draws of each end",
    ),
)


def experiment(setting: Setting) -> Outcome:
    """The plane, what a step costs, two sets of pictures, and the tilt of three."""
    out = Outcome()
    _plane(setting, out)
    _step_time(setting, out)
    _digits(setting, out)
    _clothing(setting, out)
    _tilts(setting, out)
    return out


def _plane(setting: Setting, out: Outcome) -> None:
    data = EightGaussians()
    settings = TrainSettings(
        steps=setting.pick(4000, 300), batch_size=256, lr=2e-3, ema=ConstantEMA(0.999), device="cpu"
    )
    weights = {f"W-CFM, kappa={kappa:g}": GibbsWeights(kappa=kappa) for kappa in (2.0, 1.0, 0.5)}
    couplings: dict[str, Coupling] = {PLAIN: Independent(), **weights, EXACT: MinibatchOT()}
    flows = {}
    for name, coupling in couplings.items():
        setting.say(f"plane: {name}")
        flows[name] = train(
            _plane_network, data, transport=Transport(coupling=coupling), settings=settings, seed=setting.seed
        )

    n = setting.pick(8000, 2000)
    target, distance = data.draw(n, generator(setting.seed, "target")), SlicedW2()
    samples = {
        name: [flow.sample(n, seed=setting.seed, solver=Euler(), steps=k, batch_size=n) for k in COUNTS]
        for name, flow in flows.items()
    }
    error = {name: [distance(x, target, resamples=0).value for x in each] for name, each in samples.items()}
    floor = distance(data.draw(n, generator(setting.seed, "floor")), target, resamples=0).value
    x0 = Gaussian().sample((setting.pick(4000, 500), 2), generator=generator(setting.seed, "straightness"))
    bend = {name: float(straightness(flow.network, x0, 60)) for name, flow in flows.items()}
    draws = generator(setting.seed, "pairs")
    many = Gaussian().sample((200_000, 2), generator=draws), data.draw(200_000, draws)
    share: dict[str, float | None] = {PLAIN: 1.0, EXACT: None}
    share |= {name: float(effective_share(coupling(*many).log_weight)) for name, coupling in weights.items()}

    one, half = "W-CFM, kappa=1", "W-CFM, kappa=0.5"
    out.values |= {
        "straightness, plane": Measured(bend[one], bend[PLAIN]),
        "one step, plane": Measured(error[one][0], error[PLAIN][0], calls=1),
        "four steps, plane": Measured(error[one][2], error[PLAIN][2], calls=4),
        "the bias, plane: worse at many steps": Measured(error[half][4], error[PLAIN][4], calls=50),
        "exact pairing wins in the plane": Measured(error[one][0], error[EXACT][0], calls=1),
        "effective sample size, plane": Measured(share[one] or 0.0),
    }
    rows: list[tuple[str, list[float | None]]] = []
    for name, values in error.items():
        rows.append((name, [*values, bend[name], share[name]]))
        rows.append((f"{name}, reference run", list(REFERENCE[name])))
    rows.append(("two draws of the data", [floor] * len(COUNTS) + [None, None]))
    title = "Sliced W2 at N Euler steps, straightness S and effective sample size (ESS) on the plane"
    out.tables.append(Table("plane", title, ("net", *(f"N={k}" for k in COUNTS), "S", "ESS"), rows))
    lines = {name: ([float(k) for k in COUNTS], values) for name, values in error.items()}
    lines["two draws of the data"] = ([1.0, 50.0], [floor, floor])
    out.curves.append(Curves("plane", "N(0, I) to eight Gaussians", "Euler steps", "sliced W2", lines, log="xy"))
    for steps, place in (("one Euler step", 0), ("50 Euler steps", -1)):
        clouds = {name: points_of(each[place]) for name, each in samples.items()}
        out.scatters.append(Scatter(f"plane-{COUNTS[place]}", steps, {"data": points_of(target), **clouds}))


def _step_time(setting: Setting, out: Outcome) -> None:
    """Processor time of pairing, loss, gradient and update, in rounds that take turns."""
    setting.say("plane: the time of a step")
    x1 = EightGaussians(n=4096).points("train")
    weights = GibbsWeights(kappa=1.0)
    draws = generator(setting.seed, "time")
    weights.fit(Gaussian().sample(x1.shape, generator=draws), x1, generator=draws)
    works = {
        name: training_step(_plane_network(NetSpec((2,))), FlowMatching(), Transport(coupling=coupling), x1, 256)
        for name, coupling in ((PLAIN, Independent()), ("W-CFM", weights))
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(setting.pick(41, 5)):
        for name in sorted(works, reverse=bool(turn % 2)):
            start = time.process_time()
            for _ in range(25):
                works[name]()
            times[name].append(40 * (time.process_time() - start))
    ours, plain = (float(torch.tensor(times[name]).median()) for name in ("W-CFM", PLAIN))
    out.values["what a weight costs"] = Measured(ours, plain)


def _digits(setting: Setting, out: Outcome) -> None:
    digits = Digits()
    data = Tensors(all_images(digits))  # without classes, as in the paper
    eps = FitGibbsScale()(None, Batch(data.batch("train", torch.arange(data.size())).x1), seed=setting.seed).eps
    assert eps is not None
    settings = TrainSettings(steps=setting.pick(5000, 300), batch_size=128, lr=2e-3, device="cpu")
    weights = {"W-CFM, twice the elbow": 2 * eps, "W-CFM at the elbow": eps, "W-CFM, half the elbow": eps / 2}
    couplings: dict[str, Coupling] = {PLAIN: Independent()}
    couplings |= {name: GibbsWeights(eps=scale) for name, scale in weights.items()}
    couplings[EXACT] = MinibatchOT()
    flows = {}
    for name, coupling in couplings.items():
        setting.say(f"digits: {name}")
        flows[name] = train(
            digits_network, data, transport=Transport(coupling=coupling), settings=settings, seed=setting.seed
        )

    n, unseen, distance = setting.pick(2000, 300), held_out(digits), FrechetDistance(SmallClassifier("digits"))
    samples = {
        name: [flow.sample(n, seed=setting.seed, solver=Euler(), steps=k) for k in COUNTS]
        for name, flow in flows.items()
    }
    error = {name: [distance(x, unseen, resamples=0).value for x in each] for name, each in samples.items()}
    x0 = Gaussian().sample((500, *data.shape), generator=generator(setting.seed, "straightness"))
    bend = {name: float(straightness(flow.network, x0, 30)) for name, flow in flows.items()}
    real = all_images(digits)
    ends = Gaussian().sample(real[:1000].shape, generator=generator(setting.seed, "tilt")), real[:1000]

    ours = "W-CFM at the elbow"
    out.values |= {
        "one step, digits": Measured(error[ours][0], error[PLAIN][0], calls=1),
        "50 steps, digits": Measured(error[ours][4], error[PLAIN][4], calls=50),
        "50 steps beside exact pairing, digits": Measured(error[ours][4], error[EXACT][4], calls=50),
    }
    rows: list[tuple[str, list[float | None]]] = []
    for name, values in error.items():
        coupling = couplings[name]
        found = tilt_of(coupling, *ends) if isinstance(coupling, GibbsWeights) else None
        tilted = [None] * 3 if found is None else [found.source, found.data, found.ess]
        rows.append((name, [*values, bend[name], _norm(samples[name][-1]), *tilted]))
    rows.append(("held-out digits", [None] * 6 + [_norm(unseen)] + [None] * 3))
    title = f"Digits 8x8: FD[digits classifier] at N Euler steps; the elbow is at eps={eps:.3g} in seed {setting.seed}"
    heads = ("net", *(f"N={k}" for k in COUNTS), "S", "mean norm", "tilt of x0", "tilt of x1", "ESS")
    out.tables.append(Table("digits", title, heads, rows))
    lines = {name: ([float(k) for k in COUNTS], values) for name, values in error.items()}
    out.curves.append(
        Curves("digits", "Digits 8x8: Frechet distance", "Euler steps", "FD[digits classifier]", lines, log="xy")
    )
    strips = {f"{name}, one step": images_of(each[0]) for name, each in samples.items()}
    strips |= {f"{name}, 50 steps": images_of(samples[name][-1]) for name in (PLAIN, EXACT)}
    strips |= with_nearest(samples[ours][-1], real, f"{ours}, 50 steps")
    out.pictures.append(Pictures("digits-samples", "The same noise", strips))


def _clothing(setting: Setting, out: Outcome) -> None:
    """What the tilt of the data does to samples, where pictures differ in norm."""
    real = {split: small_grey(all_images(Clothing(), split)) for split in ("train", "test")}
    data = Tensors(real["train"])
    settings = TrainSettings(steps=setting.pick(4000, 300), batch_size=128, lr=2e-3, device="cpu")
    samples = {}
    for name, coupling in ((PLAIN, Independent()), ("W-CFM at the elbow", GibbsWeights())):
        setting.say(f"clothing: {name}")
        flow = train(digits_network, data, transport=Transport(coupling=coupling), settings=settings, seed=setting.seed)
        samples[name] = flow.sample(setting.pick(2000, 300), seed=setting.seed, solver=Heun(), steps=32)
    ours = "W-CFM at the elbow"
    norms = {"training pictures": real["train"], **samples}
    out.values["the bias, clothing: paler pictures"] = Measured(_norm(samples[ours]), _norm(samples[PLAIN]), calls=64)
    edges = torch.linspace(0, 8, 33)
    lines = {}
    for name, x in norms.items():
        count = torch.histc(x.flatten(1).norm(dim=1).cpu(), 32, 0.0, 8.0)
        lines[name] = ((0.5 * (edges[1:] + edges[:-1])).tolist(), (4 * count / len(x)).tolist())
    out.curves.append(Curves("clothing-norms", "Clothing, 8x8 grey: norms", "norm of a picture", "density", lines))
    out.tables.append(
        Table(
            "clothing-norms",
            "Clothing, 8x8 grey: norms of 2000 samples, 32 Heun steps",
            ("pictures", "mean norm", "standard deviation"),
            [(name, [_norm(x), float(x.flatten(1).norm(dim=1).std())]) for name, x in norms.items()],
        )
    )
    strips = {f"{PLAIN}, 32 Heun steps": images_of(samples[PLAIN])}
    strips |= with_nearest(samples[ours], real["train"], f"{ours}, 32 Heun steps")
    out.pictures.append(Pictures("clothing-samples", "The same noise: clothing, 8x8 grey", strips))


def _tilts(setting: Setting, out: Outcome) -> None:
    """What the weights at the elbow do to real pictures, before any training."""
    setting.say("tilt of three sets of pictures")
    rows: list[tuple[str, list[float | None]]] = []
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
        rows.append(
            (
                name,
                [
                    coupling.eps,
                    found.ess,
                    found.source,
                    found.data,
                    found.interaction_share,
                    float(norm.mean()),
                    float((share * norm).sum() / share.sum()),
                ],
            )
        )
        if name.startswith("clothing"):
            out.values["in high dimension a weight is mostly a tilt"] = Measured(found.interaction_share)
    title = "Gibbs weights at the elbow of the tilt variance, on real pictures in [-1, 1] and a Gaussian source"
    heads = ("pictures", "eps", "ESS", "tilt of x0", "tilt of x1", "interaction share", "mean norm", "weighted")
    out.tables.append(Table("tilts", title, heads, rows))


def _plane_network(spec: NetSpec) -> MLP:
    return MLP(spec, hidden=(96, 96, 96))


def _norm(x: Tensor) -> float:
    """Mean Euclidean norm of pictures."""
    return float(x.flatten(1).norm(dim=1).mean())


SYSTEM = System(
    slug="weighted-cfm",
    title="Weighted conditional flow matching",
    paper="Calvo-Ordonez, Meunier, Cartea, Reisinger, Gal, Hernandez-Lobato: Weighted Conditional Flow Matching, 2025",
    arxiv="2507.22270",
    purpose="Straightens a flow by weighting independent pairs, for a norm per pair and with a bias that it measures.",
    seats={
        "source": (Gaussian,),
        "coupling": (GibbsWeights, Independent, MinibatchOT),
        "interpolant": (Linear,),
        "objective": (FlowMatching,),
        "network": (MLP,),
        "solver": (Euler, Heun, RK4),
        "diagnostics": (tilt_of, straightness),
        "fitting": (FitGibbsScale,),
        "training": (train,),
    },
    claims=CLAIMS,
    experiment=experiment,
)
