"""Flow matching against a loss written by hand, in every space of prediction, with weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from advect import Batch, InputError, NetSpec, Transport
from advect.interpolants import Cosine, Linear, StochasticInterpolant
from advect.networks import Network, Prediction
from advect.objectives import CosMapWeight, EDMWeight, FlowMatching, MinSNR, Networks
from advect.parts import build, config_of
from advect.sources import Gaussian
from advect.times import CosMap, FiniteSet, LogitNormal, Uniform

N = 64


class Line(Network):
    """Output = k x + c t + label / 10: cheap, and wrong in a known way."""

    def __init__(self, spec: NetSpec, k: float = 0.7, c: float = -0.3) -> None:
        super().__init__(spec)
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))
        self.c = c

    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Tensor:
        out = self.k * x + self.c * times[0].reshape(-1, *[1] * (x.ndim - 1))
        return out + cond["label"].reshape(-1, *[1] * (x.ndim - 1)) / 10 if "label" in cond else out


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _data(shape: tuple[int, ...] = (3,), dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(N, *shape, generator=_seeded(7), dtype=dtype) + 1


@pytest.mark.parametrize("shape", [(2,), (1, 5, 5)], ids=str)
def test_the_loss_is_the_one_written_by_hand(shape: tuple[int, ...]):
    """Bit for bit in its draws: x0, then t, from the same generator."""
    x1, net = _data(shape), Line(NetSpec(shape))
    loss = FlowMatching()(net, x1, _seeded(3))
    g = _seeded(3)
    x0 = torch.randn(x1.shape, generator=g, dtype=torch.float64)
    t = torch.rand(N, generator=g, dtype=torch.float64)
    time = t.reshape(-1, *[1] * len(shape))
    error = (net(time * x1 + (1 - time) * x0, t) - (x1 - x0)).square()
    assert torch.equal(loss.t, t)
    assert torch.allclose(loss.per_sample, error.flatten(1).mean(1), rtol=1e-12)
    assert torch.allclose(loss.mean(), error.mean(), rtol=1e-12)
    (ours,) = torch.autograd.grad(loss.mean(), net.k)
    (reference,) = torch.autograd.grad(error.mean(), net.k)
    assert torch.allclose(ours, reference, rtol=1e-12)


def test_same_seed_same_loss_and_conditions_reach_the_network():
    net, x1 = Line(NetSpec((3,))), _data()
    batch = Batch(x1, {"label": torch.arange(N)})
    losses = [FlowMatching()(net, b, _seeded(s)).mean() for b, s in ((batch, 0), (batch, 0), (batch, 1), (x1, 0))]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[0] != losses[3]


def test_stored_pairs_are_used_as_they_are():
    x1 = _data()
    x0 = x1 - 5
    nets = Networks(lambda x, t: torch.full_like(x, 5.0))
    assert FlowMatching()(nets, Batch(x1, x0=x0), _seeded()).mean() < 1e-24


@pytest.mark.parametrize("kind", ["v", "x1", "x0", "score", "F", "trigflow", "epsilon", "v_prediction"])
@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=repr)
def test_a_wrapped_network_is_regressed_on_what_it_predicts(kind, path):
    """The target of each kind, written here from the pair; all in the network's own units."""
    source, data_std, x1 = Gaussian(1.5, 0.3), 0.8, _data()
    field = Prediction(Line(NetSpec((3,))), kind, path, source, data_std)
    transport = Transport(source, interpolant=path)
    loss = FlowMatching(Uniform(0.1, 0.9))(Networks(field, transport=transport), Batch(x1), _seeded(1))
    g = _seeded(1)
    x0 = 0.3 + 1.5 * torch.randn(x1.shape, generator=g, dtype=torch.float64)
    t = 0.1 + 0.8 * torch.rand(N, generator=g, dtype=torch.float64)
    time = t[:, None]
    if isinstance(path, Linear):
        a, s, da, ds = time, 1 - time, 1.0, -1.0
    else:
        angle = math.pi / 2 * time
        a, s, da, ds = angle.sin(), angle.cos(), math.pi / 2 * angle.cos(), -math.pi / 2 * angle.sin()
    x, eps = a * x1 + s * x0, (x0 - 0.3) / 1.5
    noise = 1.5 * s / a  # EDM's noise level, and x without the source's mean
    skip, out = data_std**2 / (noise**2 + data_std**2), noise * data_std / (noise**2 + data_std**2).sqrt()
    target = {
        "v": da * x1 + ds * x0,
        "x1": x1,
        "x0": x0,
        "score": -eps / (1.5 * s),
        "epsilon": eps,
        "v_prediction": a * x0 - s * x1,
        "F": (x1 - skip * (x - 0.3 * s) / a) / out,
        "trigflow": (a * x0 - s * x1) / 1.5,
    }[kind]
    assert torch.allclose(loss.per_sample, (field.output(x, t) - target).square().mean(1), rtol=1e-9)


@pytest.mark.parametrize("space", ["x1", "x0", "score", "v"])
def test_comparing_in_another_space_scales_the_error_as_the_algebra_says(space):
    """Linear path: dx1 = (1-t) dv, dx0 = -t dv, ds = t/(1-t) dv."""
    x1, net = _data(), Line(NetSpec((3,)))
    plain = FlowMatching(Uniform(0.1, 0.9))(net, x1, _seeded())
    other = FlowMatching(Uniform(0.1, 0.9), space=space)(net, x1, _seeded())
    t = plain.t
    factor = {"v": 1 + 0 * t, "x1": (1 - t) ** 2, "x0": t**2, "score": (t / (1 - t)) ** 2}[space]
    assert torch.allclose(other.per_sample, factor * plain.per_sample, rtol=1e-9)
    wrapped = Prediction(net, "x1")
    in_x1 = FlowMatching(Uniform(0.1, 0.9))(wrapped, x1, _seeded())
    from_x1 = FlowMatching(Uniform(0.1, 0.9), space=space)(wrapped, x1, _seeded())
    assert torch.allclose(from_x1.per_sample, factor / (1 - t) ** 2 * in_x1.per_sample, rtol=1e-8)


@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=repr)
@pytest.mark.parametrize(
    ("weight", "space", "formula"),
    [
        (CosMapWeight(), "v", lambda t, snr: 2 / (math.pi * (1 - 2 * (1 - t) + 2 * (1 - t) ** 2))),
        (EDMWeight(0.7), "x1", lambda t, snr: (1 / snr + 0.49) / (0.49 / snr)),
        (MinSNR(2.0), "x1", lambda t, snr: torch.minimum(snr, torch.full_like(snr, 2.0))),
    ],
    ids=["cosmap", "edm", "min-snr"],
)
def test_weights_multiply_the_loss_in_their_space(path, weight, space, formula):
    x1, net = _data(), Line(NetSpec((3,)))
    nets = Networks(net, transport=Transport(interpolant=path))
    plain = FlowMatching(Uniform(0.05, 0.95), space=space)(nets, x1, _seeded())
    weighted = FlowMatching(Uniform(0.05, 0.95), weight)(nets, Batch(x1, weight=torch.full((N,), 3.0)), _seeded())
    t = plain.t
    snr = (t / (1 - t)) ** 2 if isinstance(path, Linear) else torch.tan(math.pi / 2 * t) ** 2
    assert torch.allclose(weighted.per_sample, 3 * formula(t, snr) * plain.per_sample, rtol=1e-9)


def test_edm_weight_on_x1_is_the_plain_loss_on_edms_network():
    x1, field = _data(), Prediction(Line(NetSpec((3,))), "F", data_std=0.7)
    plain = FlowMatching(Uniform(0.05, 0.95))(field, x1, _seeded())
    weighted = FlowMatching(Uniform(0.05, 0.95), EDMWeight(0.7))(field, x1, _seeded())
    assert torch.allclose(plain.per_sample, weighted.per_sample, rtol=1e-9)


def test_weights_are_finite_at_both_ends_where_the_formula_is():
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert MinSNR(5.0)(t, Linear()).tolist() == [0.0, 5.0]
    assert EDMWeight(0.5)(t, Linear())[0] == 4.0
    assert CosMapWeight()(t, Linear()).tolist() == pytest.approx([2 / math.pi] * 2)


def test_cosmap_weight_and_density_are_one():
    def f(t: Tensor) -> Tensor:
        return torch.sin(3 * t)

    uniform = torch.rand(1_000_000, generator=_seeded(), dtype=torch.float64)
    drawn = CosMap().sample(1_000_000, _seeded(1), dtype=torch.float64)
    assert (CosMapWeight()(uniform, Linear()) * f(uniform)).mean() == pytest.approx(float(f(drawn).mean()), abs=2e-3)


def test_the_time_density_is_the_one_given():
    times = FiniteSet((0.0, 0.5))
    assert set(FlowMatching(times)(Line(NetSpec((3,))), _data(), _seeded()).t.tolist()) == {0.0, 0.5}


def test_a_compiled_prediction_is_still_seen_as_one():
    net = Prediction(Line(NetSpec((3,))), "x1")
    compiled = torch.compile(net, backend="eager")
    assert torch.equal(
        FlowMatching()(compiled, _data(), _seeded()).mean(), FlowMatching()(net, _data(), _seeded()).mean()
    )


def test_config_gives_the_same_objective():
    objective = FlowMatching(LogitNormal(0.5), MinSNR(3.0))
    again = build(config_of(objective))
    assert config_of(again) == config_of(objective)
    assert again.space == "x1"


def test_what_does_not_fit_is_refused():
    x1 = _data()
    with pytest.raises(InputError, match="space is 'x2': choose one of"):
        FlowMatching(space="x2")
    with pytest.raises(InputError, match="space is 'v', but MinSNR is written for 'x1'"):
        FlowMatching(weight=MinSNR(), space="v")
    with pytest.raises(InputError, match=r"gamma is 0"):
        MinSNR(0)
    with pytest.raises(InputError, match=r"data_std is -1"):
        EDMWeight(-1)
    stochastic = Transport(interpolant=StochasticInterpolant())
    with pytest.raises(InputError, match="comparing in 'x1' needs an affine path, and StochasticInterpolant is none"):
        FlowMatching(space="x1")(Networks(Line(NetSpec((3,))), transport=stochastic), x1)
    with pytest.raises(InputError, match=r"the network predicts on Cosine\(\), but the transport's path is Linear\(\)"):
        FlowMatching()(Prediction(Line(NetSpec((3,))), "x1", Cosine()), x1)
    wide = Transport(Gaussian(2.0))
    with pytest.raises(InputError, match=r"the network predicts 'score' for the source Gaussian\(std=1\.0"):
        FlowMatching()(Networks(Prediction(Line(NetSpec((3,))), "score"), transport=wide), x1)
    FlowMatching()(Networks(Prediction(Line(NetSpec((3,))), "x1"), transport=wide), x1)
    with pytest.raises(InputError, match=r"the network gave shape \(64, 1\)"):
        FlowMatching()(lambda x, t: x[:, :1], x1)
