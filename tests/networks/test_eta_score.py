"""A network of eta worn as a score, trained beside a velocity, and sampled by ODE and SDE."""

from __future__ import annotations

import pytest
import torch

import advect
from advect.errors import InputError
from advect.interpolants import StochasticInterpolant
from advect.networks import MLP, EtaScore
from advect.objectives import Networks, VelocityAndScore
from advect.solvers import ConstantNoise, EulerMaruyama
from advect.times import TimeGrid

PATH = StochasticInterpolant()
SPEC = advect.NetSpec((2,))


def test_the_score_is_minus_eta_over_gamma_for_every_shape_of_time():
    net = MLP(SPEC, hidden=(8,))
    score, x = EtaScore(net, PATH), torch.randn(5, 2)
    t = torch.rand(5)
    torch.testing.assert_close(score(x, t), -net(x, t) / (t * (1 - t)).sqrt()[:, None])
    torch.testing.assert_close(score(x, 0.25), -net(x, torch.tensor(0.25)) / (0.25 * 0.75) ** 0.5)
    assert torch.equal(score.output(x, t), net(x, t))
    assert score.spec == SPEC


def test_objective_compares_eta_and_the_flow_gets_the_score():
    torch.manual_seed(0)
    velocity, eta = MLP(SPEC, hidden=(8,)), MLP(SPEC, hidden=(8,))
    transport, x1 = advect.Transport(interpolant=PATH), torch.randn(64, 2)
    losses = [
        VelocityAndScore()(Networks(velocity, others={"score": net}, transport=transport), x1, generator).mean()
        for net in (EtaScore(eta, PATH), lambda x, t: eta(x, t))
        for generator in [torch.Generator().manual_seed(0)]
    ]
    torch.testing.assert_close(*losses)
    flow = advect.Flow(velocity, transport, others={"score": EtaScore(eta, PATH)})
    grid = TimeGrid(5, 0.1, 0.9)
    sde = EulerMaruyama(ConstantNoise(0.5))
    expected = sde(
        lambda x, t: velocity(x, t) - 0.5 * eta(x, t) / (t * (1 - t)).sqrt(),
        torch.zeros(8, 2),
        grid,
        advect.Run(torch.Generator().manual_seed(1)),
        context=flow.context()._replace(score=lambda x, t: torch.zeros_like(x)),
    )
    found = flow.sample(8, x0=torch.zeros(8, 2), solver=sde, grid=grid, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, expected)


def test_a_bare_network_of_eta_is_refused_in_the_role_of_the_score():
    nets = Networks(
        MLP(SPEC, hidden=(8,)),
        others={"score": MLP(SPEC, hidden=(8,))},
        transport=advect.Transport(interpolant=PATH),
    )
    with pytest.raises(InputError, match=r"wrap it, EtaScore\(network, interpolant\)"):
        VelocityAndScore()(nets, torch.randn(8, 2))
    VelocityAndScore(score="s")(nets, torch.randn(8, 2))


def test_a_flow_with_an_eta_score_survives_saving(tmp_path):
    flow = advect.train(
        lambda spec: MLP(spec, hidden=(8,)),
        torch.randn(64, 2),
        objective=VelocityAndScore(),
        transport=advect.Transport(interpolant=PATH),
        others={"score": lambda spec: EtaScore(MLP(spec, hidden=(8,)), PATH)},
        steps=3,
        batch_size=32,
        device="cpu",
    )
    flow.save_pretrained(tmp_path)
    options = {"seed": 0, "solver": EulerMaruyama(ConstantNoise(0.5)), "grid": TimeGrid(5, 0.1, 0.9)}
    assert torch.equal(advect.Flow.from_pretrained(tmp_path).sample(4, **options), flow.sample(4, **options))
