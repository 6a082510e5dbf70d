"""Exact fields, so that no network is in the way: what noise repairs, keeps and costs; mirror; entropic pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advect import Run, oracles, sources
from advect.couplings import sinkhorn
from advect.diagnostics import normal_kl
from advect.interpolants import Mirror, StochasticInterpolant
from advect.randomness import generator, randn
from advect.solvers import ConstantNoise, Context, sde_log_prob
from advect.systems.framework import Curves, Measured, Outcome, Setting, bounded, compared
from advect.systems.stochastic_interpolants.noise import noisy

CLAIMS = (
    compared(
        "noise repairs a wrong velocity",
        "KL of a 60-bin histogram to the exact normal density; exact score, velocity wrong by .5 sin(2x), 500 steps",
        "SDE, e=1",
        "ODE, e=0",
        low=4.0,
        paper="the Fokker-Planck equation gives .0335 at e=0 and .0053 at e=1 (6.3 times)",
    ),
    compared("noise without the score harms", "KL as above, e=1", "noise added, score left out", "SDE, e=1", high=0.1),
    bounded(
        "marginals do not depend on the noise",
        "largest deviation of mean and standard deviation at t=1 from the truth, e = 0, .5, 2, exact fields, 500 steps",
        high=0.015,
    ),
    bounded(
        "likelihood by the SDE",
        "largest error of log rho1(x) at x = 0, 1, 2, exact fields, e = .3 and 1, 500 steps, nats",
        high=0.02,
    ),
    compared(
        "mirror resamples the data",
        "correlation between start and end of the mirror path with exact score, e=1 (ODE: 1)",
        "SDE, e=1",
        "ODE, e=0",
        low=2.0,
    ),
    bounded(
        "mirror keeps the data's law",
        "largest deviation of mean and standard deviation after the mirror SDE, e=1, exact score",
        high=0.015,
    ),
    bounded(
        "entropic pairs are the Schroedinger bridge's",
        "largest |covariance - (sqrt(s0^2 s1^2 + e^2) - e)| of Sinkhorn plans with kernel exp(-|x-y|^2/4e), e = .4, .1",
        "entropic plan",
        "independent pairs",
        high=1e-3,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Between two Gaussians, from a law to itself, and the plan of a Schroedinger bridge."""
    _gaussians(setting, out)
    _mirror(setting, out)
    _bridge(out)


def _gaussians(setting: Setting, out: Outcome) -> None:
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
    ends = {e: noisy(e)(wrong, x0, steps, Run(draw), context=context) for e in levels}
    kl = {e: float(normal_kl(x, 1.5, 0.8)) for e, x in ends.items()}
    nothing = context._replace(score=lambda x, t: torch.zeros_like(x))
    bare = float(normal_kl(noisy(1.0)(wrong, x0, steps, Run(draw), context=nothing), 1.5, 0.8))
    out.values["noise repairs a wrong velocity"] = Measured(kl[1.0], kl[0.0])
    out.values["noise without the score harms"] = Measured(bare, kl[1.0])
    known = [0.0335, 0.0218, 0.0141, 0.0053]
    lines = {"particles": (levels, list(kl.values())), "Fokker-Planck equation": (levels, known)}
    out.curves.append(Curves("wrong-velocity", "Velocity wrong by .5 sin(2x), exact score", "e", "KL, nats", lines))

    deviations = []
    for e in (0.0, 0.5, 2.0):
        x = noisy(e)(exact.velocity, x0, steps, Run(draw), context=context)
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
    ends = {e: noisy(e)(velocity, x0, 500, Run(draw), context=context) for e in (0.0, 1.0)}
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
