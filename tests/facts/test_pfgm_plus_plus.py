"""Facts of PFGM++ that closed forms decide: the Poisson field, posterior weights, score, rays, calls."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from advect import Flow, InputError, Run, Sampler, Transport
from advect.interpolants import VE, Cosine, Linear
from advect.oracles import FiniteData
from advect.oracles.finite import CarriedPoints
from advect.solvers import (
    AncestralDDIM,
    Context,
    EDMHeun,
    EulerMaruyama,
    Overshooting,
    RectifiedSDE,
    SDEDPMpp,
    StochasticHeun,
)
from advect.sources import Gaussian, StudentT
from advect.times import CustomGrid, EDMGrid

F64 = torch.float64
N, D, SIGMA = 3, 5, 0.7


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


Y = torch.randn(4, N, generator=_seeded(1), dtype=F64)
X = torch.randn(6, N, generator=_seeded(2), dtype=F64)
PATH = VE(0.01, 10.0)
T = PATH.time_of_half_log_snr(torch.tensor(-math.log(SIGMA), dtype=F64))


def _on(df: float | None = D, path=PATH, points: Tensor = Y) -> CarriedPoints:
    return FiniteData(points.tolist()).on(path, StudentT(df))


def _poisson_direction(x: Tensor, r: float) -> Tensor:
    """E_x / E_r of point charges y on the plane z=0, by brute force in N+D dimensions at |z| = r."""
    z = torch.randn(D, generator=_seeded(3), dtype=F64)
    z *= r / z.norm()
    field = torch.zeros(len(x), N + D, dtype=F64)
    for y in Y:
        gap = torch.cat([x - y, z.expand(len(x), D)], 1)
        field += gap / gap.norm(dim=1, keepdim=True) ** (N + D)
    return field[:, :N] / (field[:, N:] @ z / r)[:, None]


def test_fact_01_the_poisson_field_points_along_the_edm_ode():
    r = SIGMA * math.sqrt(D)
    direction, posterior = _poisson_direction(X, r), _on().denoiser(X, T)
    torch.testing.assert_close(direction, (X - posterior) / r, rtol=1e-10, atol=1e-10)
    slope = (X - posterior) / SIGMA
    torch.testing.assert_close(math.sqrt(D) * direction, slope, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(_on().source_mean(X, T), slope, rtol=1e-10, atol=1e-10)
    # and the velocity is that slope times dsigma/dt
    torch.testing.assert_close(_on().velocity(X, T), PATH.d_sigma(T) * slope, rtol=1e-10, atol=1e-10)


def test_fact_01_wrong_exponents_and_radii_are_told_apart():
    square = (X[:, None] - Y).square().sum(-1)
    right = _on().responsibilities(X, T)

    def weights(exponent: float, r2: float) -> Tensor:
        return torch.softmax(-exponent * torch.log(square + r2), 1)

    half, r2 = (N + D) / 2, D * SIGMA**2
    torch.testing.assert_close(weights(half, r2), right, rtol=1e-10, atol=1e-12)
    for wrong in (weights(D / 2, r2), weights(N + D, r2), weights(half + 1, r2), weights(half, SIGMA**2)):
        assert (wrong - right).abs().max() > 0.05
    assert (_poisson_direction(X, SIGMA) - (X - _on().denoiser(X, T)) / SIGMA).abs().max() > 0.05


@pytest.mark.parametrize(("path", "t"), [(PATH, float(T)), (Linear(), 0.4), (Cosine(), 0.7)], ids=str)
def test_fact_02_posterior_weights(path, t):
    c = path.coefficients(t)
    square = (X[:, None] - c.a * Y).square().sum(-1)
    student = (1 + square / (D * c.g**2)) ** (-(N + D) / 2)
    physics = (square + D * c.g**2).sqrt() ** -(N + D)
    found = _on(path=path).responsibilities(X, t)
    for weights in (student, physics):
        torch.testing.assert_close(found, weights / weights.sum(1, keepdim=True), rtol=1e-12, atol=1e-12)
    gaussian = FiniteData(Y.tolist()).on(path, Gaussian()).responsibilities(X, t)
    assert (found - gaussian).abs().max() > 0.05
    torch.testing.assert_close(_on(None, path).responsibilities(X, t), gaussian, rtol=0, atol=0)


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9])
def test_fact_06_the_posterior_does_not_know_the_scale_of_the_path(t):
    a, g = Linear().coefficients(t)[:2]
    there = PATH.time_of_half_log_snr(torch.log(a / g))
    linear, ve = _on(path=Linear()).denoiser(X, t), _on().denoiser(X / a, there)
    torch.testing.assert_close(linear, ve, rtol=1e-10, atol=1e-10)
    assert (linear - _on().denoiser(X, there)).abs().max() > 1e-3  # without the rescaling of x


def test_fact_07_score_of_points_against_derivatives_of_the_density():
    for path, t in ((PATH, float(T)), (Linear(), 0.4)):
        on, x = _on(path=path), X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(on.log_prob(x, t).sum(), x)
        score = on.score(X, t)
        torch.testing.assert_close(score, gradient, rtol=1e-10, atol=1e-10)
        for k in range(N):
            step = 1e-5 * torch.eye(N, dtype=F64)[k]
            difference = (on.log_prob(X + step, t) - on.log_prob(X - step, t)) / 2e-5
            assert (difference - score[:, k]).abs().max() < 1e-5
        g = path.coefficients(t).g
        assert (score + on.source_mean(X, t) / g).abs().max() > 0.3  # Tweedie's -x0/g is no score here
    # the density itself: mass 1 on the line, where the tail beyond 1e4 holds less than 1e-8
    line = torch.sinh(torch.linspace(-10, 10, 20_001, dtype=F64))[:, None]
    one = FiniteData([[0.3], [-1.0]]).on(Linear(), StudentT(3))
    mass = torch.trapezoid(one.log_prob(line, 0.5).exp(), line[:, 0])
    assert float(mass) == pytest.approx(1, abs=1e-6)


def test_fact_07_one_datum_has_the_factor_k():
    on, g = _on(points=Y[:1]), SIGMA
    for radius, k in ((0.0, 1.6), (3 * math.sqrt(2) * g, 0.348), (math.sqrt(N) * g, 1.0)):
        x = Y[:1] + radius * torch.nn.functional.normalize(X[:1], dim=1)
        tweedie = -on.source_mean(x, T) / g
        expected = (N + D) * g**2 / (radius**2 + D * g**2)
        assert expected == pytest.approx(k, abs=5e-4)
        torch.testing.assert_close(on.score(x, T), expected * tweedie, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "solver", [EulerMaruyama(), StochasticHeun(), AncestralDDIM(), RectifiedSDE(), Overshooting(), SDEDPMpp()], ids=repr
)
def test_fact_07_no_sampler_that_needs_a_score(solver):
    transport = Transport(StudentT(D))
    sentence = "the source StudentT is not Gaussian, so the velocity gives no score"
    assert transport.score_refusal == sentence
    assert Transport(StudentT(None)).score_refusal is None
    flow = Flow(lambda x, t: -x, transport, shape=(N,))
    with pytest.raises(InputError, match=f"{type(solver).__name__} needs a score, but {sentence}: take an ODE solver"):
        flow.sample(2, seed=0, solver=solver)
    with pytest.raises(InputError, match=r"needs a Gaussian source"):  # also without a Flow
        solver(lambda x, t: -x, X, 4, context=Context(Linear(), StudentT(D)))


def test_fact_07_tweedie_conversions_are_refused():
    with pytest.raises(InputError, match="the source is StudentT, which is not Gaussian, so there is no score"):
        Linear().convert(X, X, 0.5, "v", "score", StudentT(D))
    gaussian = Linear().convert(X, X, 0.5, "v", "score", StudentT(None))
    assert torch.equal(gaussian, Linear().convert(X, X, 0.5, "v", "score", Gaussian()))


def test_fact_08_one_datum_gives_straight_rays():
    y, grid = Y[:1], EDMGrid(18)
    on = _on(path=Linear(), points=y)
    times = grid.times(Linear())
    a = torch.tensor(times, dtype=F64)[:, None, None]
    sigma = (1 - a) / a
    x0 = StudentT(D).sample((50, N), None, _seeded(), dtype=F64)
    context = Context(Linear(), StudentT(D))
    starts = {"any": y + sigma[0] * x0, "official": sigma[0] * x0}
    for start in starts.values():
        states = EDMHeun()(on.velocity, times[0] * start, grid, context=context, record=True).states / a
        ray = y + sigma / sigma[0] * (start - y)
        torch.testing.assert_close(states, ray, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(states[-1], y.expand(50, N), rtol=0, atol=1e-10)
    # without the data term the ray starts at x0' = x0 - y / sigma_max
    shifted = (starts["official"] - y) / sigma[0]
    torch.testing.assert_close(shifted, x0 - y / sigma[0], rtol=1e-12, atol=1e-12)

    def divided_by_r(x: Tensor, t: Tensor) -> Tensor:  # x0 = (x - D)/r where the grid is in sigma
        ends = on.denoiser(x, t), on.source_mean(x, t) / math.sqrt(D)
        return Linear().d_alpha(t) * ends[0] + Linear().d_sigma(t) * ends[1]

    wrong = EDMHeun()(divided_by_r, times[0] * starts["any"], grid, context=context, record=True).states / a
    assert (wrong[9] - (y + sigma[9] / sigma[0] * (starts["any"] - y))).abs().max() > 0.1


@pytest.mark.parametrize(("steps", "calls"), [(18, 35), (40, 79)])
def test_fact_10_network_calls(steps, calls):
    flow = Flow(lambda x, t: x, Transport(StudentT(128)), sampler=Sampler(EDMHeun(), EDMGrid(steps)), shape=(N,))
    run = Run()
    flow.sample(4, seed=0, run=run)
    assert run.calls == {"model": calls}
    twice = Run()  # without the last step to the data nothing is of first order
    EDMHeun()(lambda x, t: x, X, CustomGrid(tuple(EDMGrid(steps).times(Linear())[:-1])), twice)
    assert twice.calls == {"model": 2 * (steps - 1)}
