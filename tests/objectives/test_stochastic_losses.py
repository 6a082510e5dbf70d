"""Losses of stochastic interpolants: minimisers in closed form, antithetic pairs, two networks by role."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advect import Batch, InputError, NetSpec, Transport
from advect.interpolants import Brownian, Linear, SinSquared, StochasticInterpolant, Zero
from advect.networks import MLP, EtaScore
from advect.objectives import InterpolantLoss, Networks, VelocityAndScore
from advect.parts import build, config_of
from advect.times import FiniteSet, LogitNormal, Uniform

# N(-1, .6^2) to N(1.5, .8^2), gamma = sqrt(t (1-t)), at T: mean and variance of x_t and the slopes of the four fields
T, S0, S1, M0, M1 = 0.7, 0.6, 0.8, -1.0, 1.5
M = (1 - T) * M0 + T * M1
V_MEAN = (1 - T) ** 2 * S0**2 + T**2 * S1**2
V = V_MEAN + T * (1 - T)
DV_MEAN, DV = 2 * T * S1**2 - 2 * (1 - T) * S0**2, 2 * T * S1**2 - 2 * (1 - T) * S0**2 + 1 - 2 * T
GAMMA = (T * (1 - T)) ** 0.5
SLOPE = {"b": DV / (2 * V), "v": DV_MEAN / (2 * V), "s": -1 / V, "eta": GAMMA / V}
LEVEL = {"b": M1 - M0, "v": M1 - M0, "s": 0.0, "eta": 0.0}
FIELDS = ["b", "v", "s", "eta"]


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(n: int = 50_000, seed: int = 1) -> Batch:
    g = _seeded(seed)
    z0, z1 = (torch.randn(n, 1, generator=g, dtype=torch.float64) for _ in range(2))
    return Batch(M1 + S1 * z1, x0=M0 + S0 * z0)


def _nets(model, **others) -> Networks:
    return Networks(model, others=others, transport=Transport(interpolant=StochasticInterpolant()))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("form", ["mse", "paper"])
def test_the_minimiser_is_the_field_in_closed_form(field, antithetic, form):
    """The gradient over an affine field vanishes at the exact one, and only for the right sign."""
    objective = InterpolantLoss(field, FiniteSet((T,)), antithetic, form)

    def gradient(slope: float, level: float) -> tuple[float, float]:
        w = torch.tensor([slope, level], dtype=torch.float64, requires_grad=True)
        loss = objective(_nets(lambda x, t: w[0] * (x - M) + w[1]), _batch(), _seeded()).mean()
        return torch.autograd.grad(loss, w)[0].tolist()

    exact = gradient(SLOPE[field], LEVEL[field])
    assert exact == pytest.approx([0, 0], abs=0.05)
    wrong = gradient(-SLOPE[field], LEVEL[field])
    assert abs(wrong[0]) > 3 * max(abs(exact[0]), 0.05)


@pytest.mark.parametrize("field", FIELDS)
def test_mse_is_twice_the_paper_form_plus_a_constant(field):
    """The constant is the mean square of the targets: the same for every network, and never negative."""
    constants = []
    for model in (lambda x, t: x, lambda x, t: 5 - torch.tanh(x)):
        mse, paper = (
            InterpolantLoss(field, Uniform(0.1, 0.9), form=form)(_nets(model), _batch(100), _seeded()).per_sample
            for form in ("mse", "paper")
        )
        constants.append(mse - 2 * paper)
    assert torch.allclose(*constants, atol=1e-9)
    assert (constants[0] > 0).all()


@pytest.mark.parametrize("field", FIELDS)
def test_an_antithetic_pair_is_one_call_with_mirrored_noise(field):
    seen: list[Tensor] = []

    def model(x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        seen.extend((x, t, label))
        return torch.zeros_like(x)

    batch = _batch(40).replace(cond={"label": torch.arange(40)})
    loss = InterpolantLoss(field, Uniform(0.2, 0.8))(_nets(model), batch, _seeded())
    x, t, label = seen
    assert len(seen) == 3
    assert torch.equal(label[:40], label[40:])
    assert torch.equal(t[:40], t[40:])
    assert torch.equal(loss.t, t[:40])
    middle = (1 - t[:40, None]) * batch.x0 + t[:40, None] * batch.x1
    assert torch.allclose(x[:40] + x[40:], 2 * middle, atol=1e-12)
    assert not torch.allclose(x[:40], x[40:])
    assert loss.per_sample.shape == (40,)


@pytest.mark.parametrize("form", ["mse", "paper"])
def test_two_networks_share_their_draws_and_the_losses_add_up(form):
    b, eta = (lambda x, t: 0.3 * x), (lambda x, t: 0.1 * x - 1)
    both = VelocityAndScore(form=form)(_nets(b, score=eta), _batch(60), _seeded())
    one = InterpolantLoss("b", form=form)(_nets(b), _batch(60), _seeded())
    two = InterpolantLoss("eta", form=form)(_nets(eta), _batch(60), _seeded())
    assert torch.allclose(both.per_sample, one.per_sample + two.per_sample, atol=1e-12)
    assert both.logs["b"] == pytest.approx(float(one.mean()))
    assert both.logs["eta"] == pytest.approx(float(two.mean()))
    assert VelocityAndScore.needs == {"score": "trained field"}


@pytest.mark.parametrize("form", ["mse", "paper"])
def test_sample_weights_multiply(form):
    weight = torch.rand(60, generator=_seeded(), dtype=torch.float64)
    for objective in (InterpolantLoss("b", form=form), VelocityAndScore("v", "s", form=form)):
        nets = _nets(lambda x, t: x, score=lambda x, t: -x)
        plain = objective(nets, _batch(60), _seeded()).per_sample
        weighted = objective(nets, _batch(60).replace(weight=weight), _seeded())
        assert torch.allclose(weighted.per_sample, weight * plain)
        assert torch.allclose(weighted.mean(), (weight * plain).mean())


def test_same_seed_same_loss():
    values = [InterpolantLoss()(_nets(lambda x, t: x), _batch(50), _seeded(s)).mean() for s in (0, 0, 1)]
    assert values[0] == values[1]
    assert values[0] != values[2]


def test_config_gives_the_same_objective():
    for objective in (InterpolantLoss("s", LogitNormal(), False, "paper"), VelocityAndScore("v", "s")):
        assert config_of(build(config_of(objective))) == config_of(objective)


def test_gamma_gives_the_target_its_units():
    """At t=1/2 the derivative of sin^2(pi t) is 0: the velocity is the straight one, exactly."""
    nets = Networks(
        lambda x, t: torch.zeros_like(x), transport=Transport(interpolant=StochasticInterpolant(gamma=SinSquared()))
    )
    batch = _batch(50)
    loss = InterpolantLoss("b", FiniteSet((0.5,)))(nets, batch, _seeded())
    assert torch.allclose(loss.per_sample, (batch.x1 - batch.x0).square().mean(1), atol=1e-12)


def test_what_does_not_fit_is_refused():
    batch = _batch(5)
    with pytest.raises(InputError, match="the path Linear has no latent z of its own: train it with FlowMatching"):
        InterpolantLoss()(Networks(lambda x, t: x, transport=Transport(interpolant=Linear())), batch)
    bare = Transport(interpolant=StochasticInterpolant(gamma=Zero()))
    for field in ("s", "eta"):
        with pytest.raises(InputError, match=f"the path has gamma = 0, so there is no '{field}' to learn"):
            InterpolantLoss(field)(Networks(lambda x, t: x, transport=bare), batch)
    with pytest.raises(InputError, match=r"reaches an end of the path, where the target of 'b' can be infinite"):
        InterpolantLoss("b", Uniform())
    with pytest.raises(InputError, match=r"where the target of 's' can be infinite"):
        VelocityAndScore("v", "s", Uniform(0.1, 1.0))
    InterpolantLoss("eta", Uniform())
    with pytest.raises(InputError, match="field is 'x': choose"):
        InterpolantLoss("x")
    with pytest.raises(InputError, match="form is 'sum': choose"):
        InterpolantLoss(form="sum")
    with pytest.raises(InputError, match="velocity='s', score='b': choose"):
        VelocityAndScore("s", "b")
    assert StochasticInterpolant().gamma == Brownian()


def test_a_wrapped_network_of_eta_is_compared_in_eta_and_asked_for_the_score():
    path = StochasticInterpolant()
    net = EtaScore(MLP(NetSpec((1,)), hidden=(8,)), path).double()
    plain = InterpolantLoss("eta")(_nets(net.network), _batch(20), _seeded()).per_sample
    both = VelocityAndScore()(_nets(lambda x, t: x, score=net), _batch(20), _seeded()).per_sample
    velocity = InterpolantLoss("b")(_nets(lambda x, t: x), _batch(20), _seeded()).per_sample
    assert torch.allclose(both, velocity + plain)
    as_score = InterpolantLoss("s")(_nets(net), _batch(20), _seeded()).per_sample
    by_hand = InterpolantLoss("s")(_nets(lambda x, t: path.score_of(net.network(x, t), t)), _batch(20), _seeded())
    assert torch.allclose(as_score, by_hand.per_sample)
    with pytest.raises(InputError, match=r"wrap it, EtaScore\(network, interpolant\)"):
        VelocityAndScore()(_nets(net, score=net.network), _batch(20))
