"""Targets averaged over a reference batch, and networks that a training wraps."""

from __future__ import annotations

import pytest
import torch

import advect
from advect import Batch, InputError, NetSpec, Transport
from advect.couplings import MinibatchOT
from advect.interpolants import VE, Cosine, Linear, StochasticInterpolant
from advect.networks import MLP, Prediction
from advect.objectives import EDMWeight, FlowMatching, InterpolantLoss, Networks
from advect.objectives.stable_targets import stable_pair
from advect.oracles import FiniteData
from advect.parts import build, config_of
from advect.sources import FromData, Gaussian, StudentT
from advect.times import EDMLogNormal, FiniteSet

F64 = torch.float64


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("source", [Gaussian(), Gaussian(0.7, 0.4), StudentT(5)], ids=repr)
@pytest.mark.parametrize("path", [Linear(), Cosine(), VE(0.01, 20.0)], ids=repr)
def test_the_average_is_the_exact_denoiser_of_the_reference(path, source):
    y = torch.randn(30, 2, 3, generator=_seeded(1), dtype=F64)
    x1, t = y[:8], torch.linspace(0.05, 0.95, 8, dtype=F64)
    x0 = source.sample(x1.shape, None, _seeded(2), dtype=F64)
    x = path.sample(x0, x1, t).x
    ends = stable_pair(x, t, x0, x1, y, path, source)
    on = FiniteData(y.tolist()).on(path, source)
    torch.testing.assert_close(ends[1], on.denoiser(x, t), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ends[0], on.source_mean(x, t), rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(path.sample(*ends, t).x, x, rtol=1e-10, atol=1e-10)  # the same state


def test_at_the_data_the_pair_stays():
    y = torch.randn(10, 2, generator=_seeded(1), dtype=F64)
    x0, t = torch.randn(4, 2, dtype=F64), torch.ones(4, dtype=F64)
    ends = stable_pair(y[:4], t, x0, y[:4], y, Linear(), StudentT(3))
    assert torch.equal(ends[1], y[:4])
    assert torch.equal(ends[0], x0)


def test_thousands_of_dimensions_neither_over_nor_underflow():
    y = torch.randn(6, 3072, generator=_seeded(1))
    t = torch.tensor([0.02, 0.5, 0.98])
    x0 = StudentT(64).sample((3, 3072), None, _seeded(2))
    ends = stable_pair(Linear().sample(x0, y[:3], t).x, t, x0, y[:3], y, Linear(), StudentT(64))
    assert all(end.isfinite().all() for end in ends)
    torch.testing.assert_close(ends[1][2], y[2])


def test_less_variance_and_the_same_mean():
    """Loss of a fixed network: the same up to what the target's variance adds, which falls."""
    x1 = FiniteData([[0.0], [1.0], [3.0]]).sample(4000, _seeded(1))
    times, nets = FiniteSet((0.4,)), Networks(lambda x, t: 0 * x, transport=Transport(StudentT(4)))
    losses = [FlowMatching(times, stable=s)(nets, Batch(x1), _seeded(3)) for s in (None, 2000)]
    plain, stable = (loss.target for loss in losses)
    assert plain is not None
    assert stable is not None
    assert stable.shape == (2000, 1)
    assert torch.equal(losses[0].t[:2000], losses[1].t)
    assert stable.var() < 0.6 * plain.var()
    assert abs(stable.mean() - plain[:2000].mean()) < 4 * float((plain[:2000] - stable).std()) / 2000**0.5


def test_a_prediction_is_compared_with_the_stable_target_too():
    x1 = torch.randn(50, 2, generator=_seeded(1), dtype=F64)
    net = Prediction(MLP(NetSpec((2,)), size="XS").double(), "F")
    loss = FlowMatching(FiniteSet((0.5,)), stable=20)(Networks(net), Batch(x1), _seeded(3))
    assert loss.target is not None
    x0 = torch.randn(50, 2, generator=_seeded(3), dtype=F64)[:20]
    x = 0.5 * (x0 + x1[:20])
    best = FiniteData(x1.tolist()).on().denoiser(x, 0.5)
    torch.testing.assert_close(loss.target, net.target(2 * x - best, best, torch.full((20,), 0.5, dtype=F64)))


def test_what_has_no_stable_target_is_said():
    x1 = torch.randn(8, 2)
    for transport, sentence in (
        (Transport(interpolant=StochasticInterpolant()), "stable targets need an affine path"),
        (Transport(coupling=MinibatchOT()), "the coupling MinibatchOT ties them"),
        (Transport(FromData(1, (2,))), "for a Gaussian or Student-t source, and FromData is neither"),
    ):
        objective = FlowMatching(stable=4)
        assert sentence in str(objective.refusal(transport))
        with pytest.raises(InputError, match=sentence):
            objective(Networks(lambda x, t: x, transport=transport), Batch(x1))
    with pytest.raises(InputError, match=r"whatever its conditions \(label\)"):
        FlowMatching(stable=4)(Networks(lambda x, t: x), Batch(x1, {"label": torch.zeros(8)}))
    with pytest.raises(InputError, match="these are ragged"):
        FlowMatching(stable=4)(Networks(lambda x, t: x), Batch(x1, rows=torch.arange(8)))
    with pytest.raises(InputError, match="stable is 0"):
        FlowMatching(stable=0)


def test_a_training_wraps_the_network_it_is_told_to():
    objective = FlowMatching(EDMLogNormal(), EDMWeight(0.4), predicts="F", data_std=0.4)
    assert config_of(build(config_of(objective))) == config_of(objective)
    transport = Transport(StudentT(16))
    flow = advect.train(
        lambda spec: MLP(spec, size="XS"), torch.randn(64, 2), objective=objective, transport=transport, steps=3
    )
    net = flow.network
    assert isinstance(net, Prediction)
    assert (net.kind, net.data_std, net.source, net.interpolant) == ("F", 0.4, StudentT(16), Linear())
    wrapped = objective.dressed("model", net, transport)
    assert wrapped is net  # not twice
    with pytest.raises(InputError, match="predicts is 'x2'"):
        FlowMatching(predicts="x2")  # pyright: ignore
    with pytest.raises(InputError, match="data_std is 0"):
        FlowMatching(data_std=0)
    with pytest.raises(InputError, match="needs an affine path"):
        objective.dressed("model", net.network, Transport(interpolant=StochasticInterpolant()))
    with pytest.raises(InputError, match="Linear is no Network of advect"):
        objective.dressed("model", torch.nn.Linear(2, 2), transport)
    assert InterpolantLoss().dressed("model", net, transport) is net
