"""What a sampler would refuse after hours of training it refuses before: a rehearsal with networks that stand still."""

from __future__ import annotations

import pytest
import torch

from advect.couplings import MinibatchOT
from advect.data import Tensors
from advect.distillation import KStep, OneStepEncoder
from advect.errors import InputError
from advect.flow import Flow
from advect.interpolants import StochasticInterpolant
from advect.networks import MLP, NetSpec, Prediction
from advect.rehearsal import default_sampler, rehearse
from advect.sampler import Sampler
from advect.solvers import DDIM, Euler, EulerLast, EulerMaruyama, FlowMapJumps, Heun
from advect.sources import VonMisesFisher
from advect.times import LogSNRGrid, TimeGrid
from advect.training import train
from advect.transport import Transport


class Loud(MLP):
    """Says when it is called."""

    def forward(self, *arguments, **cond):
        raise AssertionError("the network itself was called")


def flow(kind: str = "v", transport: Transport | None = None, network: type[MLP] = MLP) -> Flow:
    net = network(NetSpec((2,)), "XS")
    return Flow(net if kind == "v" else Prediction(net, kind), transport)  # pyright: ignore[reportArgumentType]


def test_the_network_itself_is_never_called():
    rehearse(flow(network=Loud), Sampler(Heun(), TimeGrid(10)))
    rehearse(flow("x1", network=Loud), Sampler(Euler(), TimeGrid(10)))


@pytest.mark.parametrize(
    ("made", "sampler", "sentence"),
    [
        (flow(transport=Transport(coupling=MinibatchOT())), Sampler(EulerMaruyama()), "ties x0 to x1"),
        (flow(transport=Transport(interpolant=StochasticInterpolant())), Sampler(DDIM()), "affine"),
        (flow(transport=Transport(interpolant=StochasticInterpolant())), Sampler(grid=LogSNRGrid(5)), "LogSNRGrid"),
        (flow("x1"), Sampler(Heun(), TimeGrid(5)), "no velocity at one end of time"),
        (flow(), Sampler(FlowMapJumps(), TimeGrid(1)), "integrates a flow map"),
    ],
)
def test_what_the_parts_refuse_is_refused(made, sampler, sentence):
    with pytest.raises(InputError, match=sentence):
        rehearse(made, sampler)


@pytest.mark.parametrize("kind", ["v", "x1", "x0", "score", "F"])
def test_the_default_sampler_of_every_prediction_gives_finite_samples(kind):
    made = flow(kind)
    made.sampler = default_sampler(made)
    assert bool(torch.isfinite(made.sample(4, seed=0)).all())
    assert made.sampler == Sampler() or kind not in ("v", "F")


@pytest.mark.parametrize(("objective", "kind"), [(KStep(2), "x0"), (KStep(4), "score"), (OneStepEncoder(), "x1")])
def test_a_loss_that_asks_for_no_velocity_there_is_refused_before_training(objective, kind):
    pairs = Tensors(torch.randn(50, 2), x0=torch.randn(50, 2))
    with pytest.raises(InputError, match="not finite for a network that predicts"):
        train(lambda spec: Prediction(MLP(spec, "XS"), kind), pairs, objective=objective, steps=2, device="cpu")


def test_a_source_for_training_alone_still_gets_a_sampler_that_suits_the_prediction():
    made = flow("x1", Transport(VonMisesFisher(5.0)))
    assert isinstance(default_sampler(made).solver, EulerLast)
    assert default_sampler(made).source is None


def test_training_refuses_its_sampler_before_the_first_step(tmp_path):
    with pytest.raises(InputError, match="ties x0 to x1"):
        train(
            MLP,
            torch.randn(50, 2),
            transport=Transport(coupling=MinibatchOT()),
            sampler=Sampler(EulerMaruyama()),
            steps=2,
            folder=tmp_path / "run",
            device="cpu",
        )
    assert not (tmp_path / "run").exists()


def test_training_on_the_data_prediction_leaves_a_flow_that_can_be_sampled():
    made = train(lambda spec: Prediction(MLP(spec, "XS"), "x1"), torch.randn(50, 2), steps=2, device="cpu")
    assert isinstance(made.sampler.solver, EulerLast)
    assert bool(torch.isfinite(made.sample(4, seed=0)).all())
