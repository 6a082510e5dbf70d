"""Stochastic interpolants: bridges between any two laws, sampled by an ODE or an SDE whose noise is chosen afterwards.

Measured with exact fields between Gaussians (no network, so that field errors and step errors stay apart), on a
checkerboard, and on handwritten digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advect import Flow, Run, Transport, couplings, interpolants, oracles, solvers, sources
from advect.couplings import sinkhorn
from advect.data import Checkerboard, Data, Digits
from advect.diagnostics import histogram_kl, normal_kl
from advect.encoders import SmallClassifier
from advect.interpolants import Brownian, Linear, Mirror, StochasticInterpolant, Zero
from advect.metrics import FrechetDistance
from advect.networks import MLP, EtaScore, NetSpec
from advect.objectives import FlowMatching, InterpolantLoss, VelocityAndScore
from advect.randomness import generator, randn
from advect.solvers import ConstantNoise, Context, EulerMaruyama, Heun, sde_log_prob
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
    images_of,
    points_of,
)
from advect.times import TimeGrid
from advect.training import ConstantEMA, TrainSettings, train

KL = "KL of a 40x40 histogram on [-5, 5]^2, 10000 samples against 20000 data, nats"
FD = "FD[digits classifier], 2000 samples against the held-out digits"

# KL on the checkerboard by steps and e, from one independent run with nets of 4x128
REFERENCE: dict[int, dict[float, float]] = {
    50: {0.0: 0.325, 0.1: 0.304, 0.3: 0.293, 1.0: 0.274},
    200: {0.0: 0.318, 0.1: 0.314, 0.3: 0.275, 1.0: 0.241},
}

CLAIMS = (
    Claim(
        "noise after training, checkerboard",
        f"{KL}, 200 steps",
        "lower",
        Rule("improvement", low=1 / 0.9),
        paper="qualitative: for imperfect b and s, moderate e>0 beats e=0",
        ours_is="SDE at the best of e = 0.1, 0.5, 1, 2",
        baseline_is="the ODE (e=0) of the same b network",
    ),
    Claim(
        "too much noise needs more steps, checkerboard",
        f"{KL}, e=2",
        "lower",
        Rule("improvement", low=1.0),
        paper="qualitative: too large e needs more steps",
        ours_is="200 steps",
        baseline_is="50 steps",
    ),
    Claim(
        "latent against none, checkerboard",
        f"{KL}, ODE, 200 steps",
        "lower",
        None,
        ours_is="Brownian gamma",
        baseline_is="gamma = 0, same network",
    ),
    Claim(
        "one-sided, checkerboard",
        f"{KL}, ODE, 200 steps",
        "lower",
        None,
        ours_is="one-sided linear (flow matching)",
        baseline_is="Brownian gamma, ODE",
    ),
    Claim(
        "noise repairs a wrong velocity",
        "KL of a 60-bin histogram to the exact normal density; exact score, velocity wrong by .5 sin(2x), 500 steps",
        "lower",
        Rule("improvement", low=4.0),
        paper="the Fokker-Planck equation gives .0335 at e=0 and .0053 at e=1 (6.3 times)",
        ours_is="SDE, e=1",
        baseline_is="ODE, e=0",
    ),
    Claim(
        "noise without the score harms",
        "KL as above, e=1",
        "lower",
        Rule("improvement", high=0.1),
        ours_is="noise added, score left out",
        baseline_is="SDE, e=1",
    ),
    Claim(
        "marginals do not depend on the noise",
        "largest deviation of mean and standard deviation at t=1 from the truth, e = 0, .5, 2, exact fields, 500 steps",
        "lower",
        Rule("ours", high=0.015),
    ),
    Claim(
        "likelihood by the SDE",
        "largest error of log rho1(x) at x = 0, 1, 2, exact fields, e = .3 and 1, 500 steps, nats",
        "lower",
        Rule("ours", high=0.02),
    ),
    Claim(
        "mirror resamples the data",
        "correlation between start and end of the mirror path with exact score, e=1 (ODE: 1)",
        "lower",
        Rule("improvement", low=2.0),
        ours_is="SDE, e=1",
        baseline_is="ODE, e=0",
    ),
    Claim(
        "mirror keeps the data's law",
        "largest deviation of mean and standard deviation after the mirror SDE, e=1, exact score",
        "lower",
        Rule("ours", high=0.015),
    ),
    Claim(
        "entropic pairs are the Schroedinger bridge's",
        "largest |covariance - (sqrt(s0^2 s1^2 + e^2) - e)| of Sinkhorn plans with kernel exp(-|x-y|^2/4e), e = .4, .1",
        "lower",
        Rule("ours", high=1e-3),
        ours_is="entropic plan",
        baseline_is="independent pairs",
    ),
    Claim(
        "noise after training, digits",
        f"{FD}, 200 steps",
        "lower",
        Rule("improvement", low=1.0),
        paper="SiT-XL, ImageNet 256: the SDE beats the ODE of the same network (FID-50K 2.06 at best)",
        ours_is="SDE at the best of e = 0.02, 0.1, 0.5",
        baseline_is="the ODE of the same b network",
    ),
)


def experiment(setting: Setting) -> Outcome:
    """Exact fields, the checkerboard, and digits."""
    out = Outcome()
    _exact(setting, out)
    _mirror(setting, out)
    _bridge(out)
    _checkerboard(setting, out)
    _digits(setting, out)
    return out


def _exact(setting: Setting, out: Outcome) -> None:
    setting.say("exact fields between two Gaussians")
    path, source = StochasticInterpolant(), sources.Gaussian(0.6, -1.0)
    exact = oracles.Gaussian((1.5,), 0.64).on(path, source)
    context = Context(path, source, score=exact.score)
    draw = generator(setting.seed, "exact")
    n = setting.pick(50_000, 20_000)
    x0 = source.sample((n, 1), generator=draw, dtype=torch.float64)
    steps = 500

    def wrong(x: Tensor, t: Tensor) -> Tensor:
        return exact.velocity(x, t) + 0.5 * torch.sin(2 * x)

    levels = [0.0, 0.1, 0.3, 1.0]
    ends = {e: _noisy(e)(wrong, x0, steps, Run(draw), context=context) for e in levels}
    kl = {e: float(normal_kl(x, 1.5, 0.8)) for e, x in ends.items()}
    nothing = context._replace(score=lambda x, t: torch.zeros_like(x))
    bare = float(normal_kl(_noisy(1.0)(wrong, x0, steps, Run(draw), context=nothing), 1.5, 0.8))
    out.values["noise repairs a wrong velocity"] = Measured(kl[1.0], kl[0.0])
    out.values["noise without the score harms"] = Measured(bare, kl[1.0])
    known = [0.0335, 0.0218, 0.0141, 0.0053]
    lines = {"particles": (levels, list(kl.values())), "Fokker-Planck equation": (levels, known)}
    out.curves.append(Curves("wrong-velocity", "Velocity wrong by .5 sin(2x), exact score", "e", "KL, nats", lines))

    deviations = []
    for e in (0.0, 0.5, 2.0):
        x = _noisy(e)(exact.velocity, x0, steps, Run(draw), context=context)
        deviations += [abs(float(x.mean()) - 1.5), abs(float(x.std()) - 0.8)]
    out.values["marginals do not depend on the noise"] = Measured(max(deviations))

    setting.say("likelihood by the SDE")
    points, truth = [0.0, 1.0, 2.0], [-2.4536, -0.8911, -0.8911]
    rows = torch.tensor(points, dtype=torch.float64).repeat_interleave(setting.pick(200_000, 20_000))[:, None]
    errors = []
    for e in (0.3, 1.0):
        values = sde_log_prob(exact.velocity, rows, ConstantNoise(e), source, steps, run=Run(draw), context=context)
        errors += [abs(float(v.mean()) - log_p) for v, log_p in zip(values.view(3, -1), truth, strict=True)]
    out.values["likelihood by the SDE"] = Measured(max(errors))


def _mirror(setting: Setting, out: Outcome) -> None:
    setting.say("mirror")
    path, n = StochasticInterpolant(Mirror()), setting.pick(100_000, 20_000)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -(x - 0.5) / (0.64 + t * (1 - t))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return path.velocity_of(torch.zeros_like(x), score(x, t), t)

    draw = generator(setting.seed, "mirror")
    x0 = 0.5 + 0.8 * randn((n, 1), draw, dtype=torch.float64)
    context = Context(path, score=score)
    ends = {e: _noisy(e)(velocity, x0, 500, Run(draw), context=context) for e in (0.0, 1.0)}
    together = {e: float(torch.corrcoef(torch.cat([x0, x], 1).T)[0, 1]) for e, x in ends.items()}
    out.values["mirror resamples the data"] = Measured(together[1.0], together[0.0])
    x = ends[1.0]
    out.values["mirror keeps the data's law"] = Measured(
        max(abs(float(x.mean() - x0.mean())), abs(float(x.std() - x0.std())))
    )


def _bridge(out: Outcome) -> None:
    x = torch.linspace(-7, 7, 501, dtype=torch.float64)
    s0, s1 = 1.0, 1.5
    log_a, log_b = (torch.log_softmax(-(x**2) / (2 * s**2), 0) for s in (s0, s1))
    cost = (x[:, None] - x[None]).square()
    errors, independent = [], []
    for e in (0.4, 0.1):
        plan = sinkhorn(cost, 4 * e, log_a, log_b, tolerance=1e-9).log_plan.exp()
        covariance = float((plan * x[:, None] * x[None]).sum())
        known = math.sqrt(s0**2 * s1**2 + e**2) - e
        errors.append(abs(covariance - known))
        independent.append(known)
    out.values["entropic pairs are the Schroedinger bridge's"] = Measured(max(errors), max(independent))


def _checkerboard(setting: Setting, out: Outcome) -> None:
    data = Checkerboard()
    settings = TrainSettings(
        steps=setting.pick(3000, 150), batch_size=1000, lr=2e-3, ema=ConstantEMA(0.999), device="cpu"
    )
    setting.say("checkerboard: b and eta with a Brownian latent")
    both = _train_both(_small, data, settings, setting.seed)
    setting.say("checkerboard: no latent, and one-sided")
    bare = train(
        _small,
        data,
        objective=InterpolantLoss("b", antithetic=False),
        transport=Transport(interpolant=StochasticInterpolant(gamma=Zero())),
        settings=settings,
        seed=setting.seed,
    )
    one_sided = train(_small, data, objective=FlowMatching(), settings=settings, seed=setting.seed)

    setting.say("checkerboard: sampling")
    n, levels = setting.pick(10_000, 1000), [0.0, 0.1, 0.3, 0.5, 1.0, 2.0]
    target = data.draw(20_000, generator(setting.seed, "target"))
    floor = float(histogram_kl(target, data.draw(n, generator(setting.seed, "floor"))))
    samples = {(e, steps): _sample(both, n, e, steps, setting.seed) for e in levels for steps in (50, 200)}
    kl = {key: float(histogram_kl(target, x)) for key, x in samples.items()}
    best = min(levels[1:], key=lambda e: kl[e, 200])
    others = {
        "gamma = 0": _sample(bare, n, 0.0, 200, setting.seed),
        "one-sided": _sample(one_sided, n, 0.0, 200, setting.seed),
    }
    ode = kl[0.0, 200]
    out.values |= {
        "noise after training, checkerboard": Measured(kl[best, 200], ode, calls=400),
        "too much noise needs more steps, checkerboard": Measured(kl[2.0, 200], kl[2.0, 50], calls=400),
        "latent against none, checkerboard": Measured(ode, float(histogram_kl(target, others["gamma = 0"])), calls=200),
        "one-sided, checkerboard": Measured(float(histogram_kl(target, others["one-sided"])), ode, calls=200),
    }
    rows: list[tuple[str, list[float | None]]] = []
    for steps in (50, 200):
        rows.append((f"{steps} steps", [kl[e, steps] for e in levels]))
        rows.append((f"{steps} steps, reference run", [REFERENCE[steps].get(e) for e in levels]))
    title = "KL on the checkerboard by noise level e, beside an independent run with the same nets (one seed)"
    out.tables.append(Table("checkerboard", title, ("sampling", *(f"e={e:g}" for e in levels)), rows))
    lines = {f"{steps} steps": (levels, [kl[e, steps] for e in levels]) for steps in (50, 200)}
    lines["20000 against 10000 data"] = ([levels[0], levels[-1]], [floor, floor])
    out.curves.append(Curves("noise", "Checkerboard: the noise is chosen after training", "e", "KL, nats", lines))
    clouds = {"data": target, "e=0": samples[0.0, 200], f"e={best:g}": samples[best, 200], **others}
    out.scatters.append(Scatter("checkerboard", "200 steps", {name: points_of(x) for name, x in clouds.items()}))
    out.notes.append(f"checkerboard, seed 0: best e {best:g}, floor of the KL {floor:.3f}, nets of 4x128")


def _digits(setting: Setting, out: Outcome) -> None:
    setting.say("digits: b and eta")
    data = Digits()
    settings = TrainSettings(steps=setting.pick(4000, 150), batch_size=128, lr=1e-3, device="cpu")
    flow = _train_both(_large, data, settings, setting.seed)
    setting.say("digits: sampling")
    n, levels = setting.pick(2000, 200), [0.0, 0.02, 0.1, 0.5]
    labels = torch.arange(n) % 10
    held_out = torch.cat([data.batch(s, torch.arange(data.size(s))).x1 for s in ("validation", "test")])
    distance = FrechetDistance(SmallClassifier("digits"))
    samples = {
        (e, steps): _sample(flow, n, e, steps, setting.seed, label=labels) for e in levels for steps in (25, 200)
    }
    fd = {key: distance(x, held_out, resamples=0).value for key, x in samples.items()}
    best = min(levels[1:], key=lambda e: fd[e, 200])
    out.values["noise after training, digits"] = Measured(fd[best, 200], fd[0.0, 200], calls=400)
    lines = {f"{steps} steps": (levels, [fd[e, steps] for e in levels]) for steps in (25, 200)}
    out.curves.append(
        Curves("digits", "Digits 8x8: the noise is chosen after training", "e", "FD[digits classifier]", lines)
    )
    strips = {f"e={e:g}, 200 steps": images_of(samples[e, 200]) for e in levels}
    out.pictures.append(Pictures("digits-samples", "The same networks and starting noise", strips))


def _small(spec: NetSpec) -> MLP:
    return MLP(spec, hidden=(128, 128, 128, 128))


def _large(spec: NetSpec) -> MLP:
    return MLP(spec, hidden=(256, 256, 256, 256))


def _train_both(network: Callable[[NetSpec], MLP], data: Data, settings: TrainSettings, seed: int) -> Flow:
    """b and eta with two networks on the same draws."""
    path = StochasticInterpolant()
    return train(
        network,
        data,
        objective=VelocityAndScore("b", "eta"),
        transport=Transport(interpolant=path),
        others={"score": lambda spec: EtaScore(network(spec), path)},
        settings=settings,
        seed=seed,
    )


def _sample(flow: Flow, n: int, e: float, steps: int, seed: int, **cond: Any) -> Tensor:
    """n samples at noise level e; the grid stops short of the ends, where gamma is 0."""
    return flow.sample(n, seed=seed, batch_size=2000, solver=_noisy(e), grid=TimeGrid(steps, 1e-3, 1 - 1e-3), **cond)


def _noisy(e: float) -> solvers.Solver:
    """The SDE of level e, or the ODE."""
    return EulerMaruyama(ConstantNoise(e)) if e else solvers.Euler()


SYSTEM = System(
    slug="stochastic-interpolants",
    title="Stochastic interpolants",
    paper="Albergo, Boffi, Vanden-Eijnden: Stochastic Interpolants: A Unifying Framework, 2023",
    arxiv="2303.08797",
    purpose="Bridges any two densities, by an ODE or by an SDE whose noise level is chosen after training.",
    seats={
        "source": (sources.Gaussian, sources.FromData),
        "coupling": (couplings.Independent, couplings.SinkhornOT),
        "interpolant": (
            StochasticInterpolant,
            interpolants.Straight,
            interpolants.Trigonometric,
            interpolants.EncodeDecode,
            Mirror,
            Brownian,
            interpolants.Quadratic,
            interpolants.SinSquared,
            interpolants.SigmoidBump,
            Zero,
            Linear,
        ),
        "objective": (VelocityAndScore, InterpolantLoss, FlowMatching),
        "network": (MLP, EtaScore),
        "solver": (EulerMaruyama, solvers.StochasticHeun, solvers.DormandPrince, Heun),
        "noise level": (ConstantNoise, solvers.SourceNoise, solvers.SinSquaredNoise, solvers.ReverseNoise),
        "likelihood": (solvers.log_prob, sde_log_prob),
    },
    claims=CLAIMS,
    experiment=experiment,
)
