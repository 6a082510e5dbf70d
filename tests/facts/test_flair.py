"""Facts of FLAIR: prior steps, times, calibration and noise (docs/systems/flair.md)."""

from __future__ import annotations

import math

import pytest
import torch

from advect.conditions import ClassLabel, Conditions
from advect.fields import Run, bind
from advect.fitting import velocity_errors
from advect.guidance import CFG, Guided
from advect.interpolants import Cosine, Linear
from advect.inverse import (
    CalibratedWeights,
    Consistency,
    ConstantShare,
    ConstantWeight,
    FixedShare,
    Flair,
    InverseMethod,
    Problem,
    TrajectoryAdjustment,
)
from advect.inverse.operators import Denoising
from advect.randomness import randn
from advect.times import TimeGrid

SHAPE = (2, 3, 5)
F64 = torch.float64


def draws(*seeds: int, rows: int = 4) -> list[torch.Tensor]:
    return [randn((rows, *SHAPE), torch.Generator().manual_seed(s), dtype=F64) for s in seeds]


def problem(field, run=None, path=Linear(), operator=None) -> Problem:
    return Problem(field, draws(9)[0], operator or Denoising(), SHAPE, interpolant=path, run=run or Run())


@pytest.mark.parametrize("t", [0.016, 0.3, 0.8])
def test_fact_01_one_gradient_in_three_forms(t):
    mu, eps, v = draws(0, 1, 2)
    x = t * mu + (1 - t) * eps
    x0, x1 = problem(lambda x, t: v).ends(x, t)
    g = (mu - eps) - v
    assert ((mu - x1) / (1 - t) - g).abs().max() < 1e-12
    assert ((x0 - eps) - t * g).abs().max() < 1e-12
    # the step that is computed, mu <- (1 - beta) mu + beta x1hat, is mu - w g
    w = 0.3
    assert (torch.lerp(mu, x1, w / (1 - t)) - (mu - w * g)).abs().max() < 1e-12
    # wrong: the sign of v, the ends exchanged, and (1 - t) g for the residual of RED-diff
    assert ((mu - eps) + v - g).abs().max() > 0.1
    assert ((mu - x0) / (1 - t) - g).abs().max() > 0.1
    assert ((x0 - eps) - (1 - t) * g).abs().max() > 0.1


@pytest.mark.parametrize("residual", ["velocity", "noise", "snr"])
@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_fact_01_three_weightings_are_one_code_path_on_every_affine_path(residual, path):
    """The step of each form is w times its own residual."""
    v = draws(3)[0]
    method = Flair(steps=1, end=0.6, weights=ConstantWeight(0.9), residual=residual, consistency=Consistency(steps=0))
    here = problem(lambda x, t: v, Run(torch.Generator().manual_seed(5)), path)
    found = method.solve(here)
    again = problem(lambda x, t: v, Run(torch.Generator().manual_seed(5)), path)
    (t,), mu, carried = method.times(), again.start(), again.noise()
    eps = TrajectoryAdjustment()(carried, again.noise(), t)
    x = again.between(eps, mu, t)
    c, (x0, _) = path.coefficients(t), again.ends(x, t)
    gradients = {
        "velocity": (c.da * mu + c.dg * eps) - v,
        "noise": x0 - eps,
        "snr": (x0 - eps) * c.g / c.a,
    }
    (w,), _ = method.shares(again)
    assert (found - (mu - w * gradients[residual])).abs().max() < 1e-12


def test_fact_02_times_and_calls():
    times = Flair().times()
    tau = [1 - t for t in times]
    assert len(tau) == 50
    assert tau[0] == pytest.approx(0.98392157, abs=1e-7)
    assert tau[-1] == pytest.approx(0.19607843, abs=1e-7)
    assert tau[0] - tau[1] == pytest.approx(0.82 / 51, abs=1e-12)
    wrong = torch.linspace(1, 0.18, 50).tolist()
    assert abs(wrong[0] - tau[0]) > 0.01
    assert abs(wrong[-1] - tau[-1]) > 0.01

    def field(x, t, label=None):
        return -x

    run = Run(torch.Generator().manual_seed(0))
    y = torch.zeros(3, *SHAPE)
    Flair()(field, y, Denoising(), SHAPE, run=run)
    assert run.nfe == 50
    assert run.rows["model"] == 150

    guided = Run(torch.Generator().manual_seed(0))
    bound = bind(
        Guided(field, CFG(2.0), Conditions((ClassLabel(3),)), batched=False), guided, label=torch.zeros(3).long()
    )
    Flair()(bound, y, Denoising(), SHAPE, run=guided)
    assert guided.nfe == 100


def test_fact_03_a_point_as_prior_contracts_by_the_product_of_the_shares():
    m = draws(7, rows=1)[0]

    def field(x, t):
        return (m - x) / (1 - t)

    method = Flair(weights=ConstantShare(0.05), consistency=Consistency(steps=0))
    ends = []
    for seed in (0, 1):
        here = problem(field, Run(torch.Generator().manual_seed(seed)))
        ends.append((method.solve(here) - m) / (here.start() - m))
    for ratio in ends:  # independent of the noise
        assert (ratio / 0.0769450 - 1).abs().max() < 1e-6
        assert (ratio / 0.95**50 - 1).abs().max() < 1e-11
    # at a constant w the product is another one: 1 - w/tau at each time
    constant = Flair(weights=ConstantWeight(0.2), consistency=Consistency(steps=0))
    here = problem(field, Run(torch.Generator().manual_seed(0)))
    weights, shares = constant.shares(here)
    expected = math.prod(1 - w / (1 - t) for w, t in zip(weights, constant.times(), strict=True))
    assert ((constant.solve(here) - m) / (here.start() - m) / expected - 1).abs().max() < 1e-11
    assert abs(expected / math.prod(1 - w for w in weights) - 1) > 0.1
    assert max(shares) == pytest.approx(0.2, abs=1e-12)


def gaussian_velocity(s):
    return lambda x, t: (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2) * x


def closed(s, t):
    return s**2 / (t**2 * s**2 + (1 - t) ** 2)


def test_fact_04_calibration_on_a_gaussian():
    g = torch.Generator().manual_seed(0)
    for s in (1.0, 2.0):
        x1 = s * torch.randn(200_000, 2, generator=g, dtype=F64)
        e = velocity_errors(gaussian_velocity(s), x1, 11, generator=g, batch_size=200_000)
        for k in range(11):
            assert float(e[k]) == pytest.approx(closed(s, k / 10), rel=0.01)
        if s == 1.0:
            assert [round(float(e[k]), 1) for k in (0, 5, 10)] == [1.0, 2.0, 1.0]
        else:
            assert float(e[1]) == pytest.approx(4.7059, rel=0.01)
            assert float(e[9]) == pytest.approx(1.2308, rel=0.01)
    # what is told apart at s = 2: the target noise + data, time reversed, a sum instead of a mean
    t, x1 = 0.1, 2 * torch.randn(400_000, 1, generator=g, dtype=F64)
    x0 = torch.randn(400_000, 1, generator=g, dtype=F64)
    v = gaussian_velocity(2.0)(t * x1 + (1 - t) * x0, t)
    assert float((v - (x0 + x1)).square().mean()) == pytest.approx(6.80, rel=0.01)
    assert closed(2.0, 0.9) == pytest.approx(1.2308, rel=1e-3)
    assert 2 * closed(2.0, 0.1) > 1.5 * 4.7059


def test_fact_05_weights_from_a_table():
    e = 1 + 9 * torch.arange(100, dtype=F64) / 99
    r = 2 * CalibratedWeights(max_beta=None).fit(e).table
    assert float(r[0]) == pytest.approx(3.8631, abs=1e-4)
    assert float(r[99]) == pytest.approx(0.38631, abs=1e-5)
    assert float(r.mean()) == pytest.approx(1.0, abs=1e-12)
    last = CalibratedWeights("last", max_beta=None).fit(e).table
    assert (last - 0.5 * (r - r[99])).abs().max() < 1e-12
    assert float(last[99]) == 0.0
    assert float((r / 2 - last).abs().max()) > 0.1  # the "zero" key that must not be dropped
    # the table of Stable Diffusion 3.5 medium, of which three values and the mean of r are known:
    # 1/e normalised to mean 1 keeps the ratios of w
    known = {0: (0.646, 0.2612), 22: (0.231, 0.7294), 99: (1.086, 0.1553)}
    for a, b in ((0, 22), (99, 22)):
        assert known[a][1] / known[b][1] == pytest.approx(known[b][0] / known[a][0], rel=4e-3)
    none, offset = (0.2612, 0.7294, 0.1553), (0.1059, 0.5741, 0.0)
    for w, shifted in zip(none, offset, strict=True):
        assert w - none[2] == pytest.approx(shifted, abs=1e-3)


def test_fact_05_look_up_takes_the_nearest_time_and_index_0_is_noise():
    e = 1 + 9 * torch.arange(100, dtype=F64) / 99
    weights = CalibratedWeights(max_beta=None).fit(e)
    times = Flair().times()
    found = weights.at(times, Linear())
    assert found[0] == pytest.approx(float(weights.table[round(99 * times[0])]), abs=0)
    assert found[0] > found[-1]  # the error grows with t here, so the weight falls
    assert found[0] == pytest.approx(float(weights.table[2]), abs=1e-12)


def test_fact_06_moments_of_the_adjusted_noise():
    method, n = Flair(), 400_000
    t0 = method.times()[0]
    assert TrajectoryAdjustment().alpha(t0) == pytest.approx(0.016078, abs=1e-6)
    g = torch.Generator().manual_seed(0)
    carried = torch.randn((), generator=g, dtype=F64).expand(n)
    mu, t = 0.7, 0.6
    fresh = torch.randn(n, generator=g, dtype=F64)
    x = t * mu + (1 - t) * TrajectoryAdjustment()(carried, fresh, t)
    assert float(x.mean()) == pytest.approx(t * mu + (1 - t) * t * float(carried[0]), abs=3e-3)
    assert float(x.var()) == pytest.approx((1 - t) ** 2 * (1 - t**2), rel=0.01)
    assert torch.equal(FixedShare(0.0)(carried, fresh, t), fresh)  # plain re-noising
    other = torch.randn(n, generator=g, dtype=F64)
    assert float(TrajectoryAdjustment()(other, fresh, t).var()) == pytest.approx(1.0, rel=0.01)
    assert float((t * other + (1 - t) * fresh).var()) == pytest.approx(t**2 + (1 - t) ** 2, rel=0.01)  # wrong: 0.52


@pytest.mark.parametrize(
    ("rule", "at", "value"),
    [
        (TrajectoryAdjustment(0.5), 0.4, 0.2),
        (TrajectoryAdjustment(power=0.5), 0.36, 0.6),
        (TrajectoryAdjustment(power=2.0), 0.5, 0.25),
        (TrajectoryAdjustment(of="tau"), 0.3, 0.7),
        (TrajectoryAdjustment(power=1 / 3, of="tau"), 0.875, 0.5),
    ],
)
def test_fact_06_released_variants_of_the_share(rule, at, value):
    assert rule.alpha(at) == pytest.approx(value, abs=1e-12)


def test_the_carried_end_is_mixed_once():
    """At alpha = 1 the noise of the second time is the source end of the first, raw."""
    seen = []

    class Spy(FixedShare):
        def __call__(self, carried, fresh, t):
            seen.append(carried)
            return super().__call__(carried, fresh, t)

    v = draws(4)[0]
    here = problem(lambda x, t: v, Run(torch.Generator().manual_seed(2)))
    method = Flair(steps=2, renoise=Spy(1.0), consistency=Consistency(steps=0))
    method.solve(here)
    again = problem(lambda x, t: v, Run(torch.Generator().manual_seed(2)))
    x = again.between(seen[0], again.start(), method.times()[0])
    assert (seen[1] - (x - method.times()[0] * v)).abs().max() < 1e-12


@pytest.mark.parametrize("s", [0.05, 0.5, 2.0])
def test_stability_of_one_prior_step(s):
    """mu - m is multiplied by 1 - beta (1 - t G), which diverges from beta = 2/(1 - t G) on and never below 2."""
    t, beta = 0.7, 1.4
    big_g = t * s**2 / (t**2 * s**2 + (1 - t) ** 2)
    assert 0 <= t * big_g < 1
    mu, eps = draws(0, 1)
    here = problem(gaussian_velocity(s))
    a = here.ends(t * mu + (1 - t) * eps, t).x1
    b = here.ends(t * (mu + 1) + (1 - t) * eps, t).x1
    change = torch.lerp(mu + 1, b, beta) - torch.lerp(mu, a, beta)
    assert (change - (1 - beta * (1 - t * big_g))).abs().max() < 1e-12
    assert change.abs().max() < 1


def test_shares_of_two_or_more_are_refused_and_rescaled_by_default():
    sharp = torch.logspace(0, -3, 100, dtype=F64)  # a prior that knows its data well near t=1
    here = problem(lambda x, t: x)
    with pytest.raises(ValueError, match=r"beta = .* at t = 0\.8.* diverges: set max_beta"):
        Flair(weights=CalibratedWeights(max_beta=None).fit(sharp)).shares(here)
    with pytest.raises(ValueError, match="all zero at the times of this run"):
        Flair(weights=CalibratedWeights("last").fit(sharp)).shares(here)
    valley = 1 + (torch.linspace(0, 1, 100, dtype=F64) - 0.6).abs() * 30
    for table, offset in ((sharp, "none"), (valley, "none"), (valley, "last")):
        _, shares = Flair(weights=CalibratedWeights(offset).fit(table)).shares(here)
        assert max(shares) == pytest.approx(0.85, abs=1e-12)
    assert TimeGrid(51, 0.0, 0.82).times()[1:-1] == Flair().times()
    assert isinstance(Flair(), InverseMethod)
