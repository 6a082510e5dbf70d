"""Laws that hold for every gamma, every mean, and their combination."""

from __future__ import annotations

import pytest
import torch

from advect.errors import InputError
from advect.interpolants import (
    Brownian,
    EncodeDecode,
    Gamma,
    Mirror,
    Quadratic,
    SigmoidBump,
    SinSquared,
    Spatial,
    StochasticInterpolant,
    Straight,
    Trigonometric,
    Zero,
)
from advect.parts import build, config_of
from advect.transport import Transport

GAMMAS: list[Gamma] = [Brownian(), Brownian(2.5), Quadratic(), SinSquared(), SigmoidBump(), SigmoidBump(4.0), Zero()]
SPATIALS: list[Spatial] = [Straight(), Trigonometric(), EncodeDecode(), Mirror()]
INSIDE = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)


def combinations() -> list[StochasticInterpolant]:
    out = []
    for spatial in SPATIALS:
        for gamma in GAMMAS:
            try:
                out.append(StochasticInterpolant(spatial, gamma))
            except InputError:
                continue
    return out


def test_every_member_of_both_seats_is_tested():
    for seat, members in ((Gamma, GAMMAS), (Spatial, SPATIALS)):
        assert {c for c in seat.__subclasses__() if c.__module__.startswith("advect.")} == {type(m) for m in members}


@pytest.mark.parametrize("gamma", GAMMAS, ids=repr)
def test_gamma_vanishes_at_the_ends_and_its_derivatives_are_its_own(gamma: Gamma):
    assert (gamma(ENDS) == 0).all()
    t = INSIDE.clone().requires_grad_()
    value = gamma(t)
    slope = torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)
    torch.testing.assert_close(gamma.derivative(INSIDE), slope, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gamma.product(INSIDE), value.detach() * slope, rtol=1e-10, atol=1e-10)
    assert torch.isfinite(gamma.product(ENDS)).all()
    torch.testing.assert_close(gamma(torch.tensor(0.5, dtype=torch.float64)).item(), gamma.peak)
    assert (gamma(INSIDE) <= gamma.peak + 1e-15).all()
    if not isinstance(gamma, Zero):
        assert (gamma(INSIDE) > 0).all()


def test_gammas_are_the_published_ones():
    t, S = INSIDE, torch.sigmoid
    torch.testing.assert_close(Brownian(2.0)(t), (2 * t * (1 - t)).sqrt())
    torch.testing.assert_close(Quadratic()(t), t * (1 - t))
    torch.testing.assert_close(SinSquared()(t), torch.sin(torch.pi * t) ** 2)
    u, end = 10 * (t - 0.5), torch.tensor(-5.0, dtype=torch.float64)
    torch.testing.assert_close(SigmoidBump()(t), S(u + 1) - S(u - 1) - S(end + 1) + S(end - 1))


@pytest.mark.parametrize("path", combinations(), ids=repr)
def test_path_runs_from_x0_to_x1_with_its_own_velocity(path: StochasticInterpolant):
    g = torch.Generator().manual_seed(0)
    x0, x1 = (torch.randn(3, 2, dtype=torch.float64, generator=g) for _ in range(2))
    c = path.coefficients(ENDS)
    expected = torch.tensor([[1.0, 0.0], [1.0, 0.0]] if isinstance(path.spatial, Mirror) else [[0.0, 1.0], [1.0, 0.0]])
    torch.testing.assert_close(torch.stack([c.a, c.g], 1), expected.double(), rtol=0, atol=1e-12)
    for t in (0.1, 0.37, 0.8):
        point = path.sample(x0, x1, torch.tensor(t, dtype=torch.float64), torch.Generator().manual_seed(1))
        assert point.z is not None
        h = 1e-6
        up, down = (path.decompose(x0, x1, t + e) for e in (h, -h))
        speed = (up.mean + up.gamma * point.z - down.mean - down.gamma * point.z) / (2 * h)
        torch.testing.assert_close(point.v, speed, rtol=1e-7, atol=1e-7)
        parts = path.decompose(x0, x1, t)
        torch.testing.assert_close(point.x, parts.mean + parts.gamma * point.z)
        torch.testing.assert_close(parts.gamma_d_gamma, parts.gamma * parts.d_gamma)
    assert build(config_of(path)) == path


def test_same_seed_same_latent():
    x0, x1, t = torch.zeros(4, 3), torch.ones(4, 3), torch.rand(4, generator=torch.Generator().manual_seed(0))
    a, b, c = (StochasticInterpolant().sample(x0, x1, t, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.v, b.v)
    assert not torch.equal(a.x, c.x)


def test_fields_turn_into_one_another():
    path, t = StochasticInterpolant(), torch.tensor([0.2, 0.7], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    v, score = (torch.randn(2, 3, dtype=torch.float64, generator=g) for _ in range(2))
    eta = path.eta_of(score, t)
    torch.testing.assert_close(path.score_of(eta, t), score)
    b = path.velocity_of(v, score, t)
    torch.testing.assert_close(b, v + path.gamma.derivative(t)[:, None] * eta)
    torch.testing.assert_close(path.mean_velocity_of(b, score, t), v)
    assert torch.isfinite(path.velocity_of(v, score, 0.0)).all()


def test_a_transport_on_a_stochastic_path_has_a_score_unless_gamma_is_zero():
    assert Transport(interpolant=StochasticInterpolant()).score_refusal is None
    refusal = Transport(interpolant=StochasticInterpolant(gamma=Zero())).score_refusal
    assert refusal is not None
    assert "no Gaussian variable" in refusal


def test_what_does_not_go_together_is_said():
    for make, sentence in (
        (lambda: StochasticInterpolant(Trigonometric(), Brownian(4.0)), "needs gamma below 1"),
        (lambda: StochasticInterpolant(Trigonometric(), SinSquared()), "which reaches 1"),
        (lambda: StochasticInterpolant(EncodeDecode(), Zero()), "pure latent at t=1/2"),
        (lambda: Brownian(0.0), "amplitude is 0.0"),
        (lambda: SigmoidBump(0.0), "steepness is 0.0"),
    ):
        with pytest.raises(InputError, match=sentence):
            make()
