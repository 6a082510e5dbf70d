"""An objective whose network is no velocity is refused by `advect.train`, and eta is worn as a score by itself."""

from __future__ import annotations

import pytest
import torch

import advect
from advect.distillation import OnlineReflow
from advect.errors import InputError
from advect.interpolants import Linear, StochasticInterpolant, Zero
from advect.networks import MLP, EtaScore
from advect.objectives import FlowMatching, InterpolantLoss, Objective, VelocityAndScore
from advect.solvers import ConstantNoise, EulerMaruyama
from advect.times import TimeGrid
from advect.training.prepare import prepare

PATH = advect.Transport(interpolant=StochasticInterpolant())
DATA = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
BARE = advect.Transport(interpolant=StochasticInterpolant(gamma=Zero()))


def _small(spec: advect.networks.NetSpec) -> MLP:
    return MLP(spec, hidden=(8,))


def _train(objective: Objective, transport: advect.Transport, **more: object) -> advect.Flow:
    return advect.train(_small, DATA, objective=objective, transport=transport, steps=2, batch_size=16, **more)


@pytest.mark.parametrize(
    ("objective", "means"),
    [
        (InterpolantLoss("v"), "field is 'v': the network would learn v = E"),
        (InterpolantLoss("s"), "field is 's': the network would learn the score"),
        (InterpolantLoss("eta"), "field is 'eta': the network would learn eta = E"),
        (VelocityAndScore("v"), "velocity is 'v'"),
        (OnlineReflow(objective=InterpolantLoss("s")), "field is 's'"),
    ],
)
def test_a_network_that_is_no_velocity_is_refused_before_a_folder_is_made(objective, means, tmp_path):
    more = {"others": {"score": _small}} if isinstance(objective, VelocityAndScore) else {}
    with pytest.raises(InputError, match=r"take (field|velocity)='b'") as refused:
        _train(objective, PATH, folder=tmp_path / "run", **more)
    assert means in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_what_is_a_velocity_is_trained():
    assert FlowMatching().refusal(PATH) is None
    assert InterpolantLoss("b").refusal(PATH) is None
    assert InterpolantLoss("v").refusal(BARE) is None  # without a latent v = b
    _train(InterpolantLoss("v"), BARE).sample(2)


def test_an_objective_that_refuses_its_path_does_so_before_a_folder_is_made(tmp_path):
    with pytest.raises(InputError, match="Linear has no latent z"):
        _train(InterpolantLoss("b"), advect.Transport(interpolant=Linear()), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_trying_a_loss_leaves_the_numbers_of_the_caller_alone():
    before = torch.get_rng_state()
    _ = prepare(_small, DATA, objective=InterpolantLoss("b"), transport=PATH)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bare_network_of_eta_becomes_the_score_of_the_flow():
    flow = _train(VelocityAndScore("b", "eta"), PATH, others={"score": _small})
    assert isinstance(flow.others["score"], EtaScore)
    options = {"solver": EulerMaruyama(ConstantNoise(0.5)), "grid": TimeGrid(4, 0.1, 0.9)}
    assert flow.sample(3, seed=0, **options).isfinite().all()
    plain = _train(VelocityAndScore("b", "s"), PATH, others={"score": _small})
    assert isinstance(plain.others["score"], MLP)
