"""Laws of every objective that needs no teacher: seeds, reductions, gradients, configs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import advect.objectives as objectives
from advect import Batch, NetSpec, Transport
from advect.interpolants import IndependentChain, LinearChain, StochasticInterpolant
from advect.networks import EtaScore, Network
from advect.objectives import (
    ARTM,
    DTM,
    FHTM,
    FlowMatching,
    InterpolantLoss,
    MeanFlow,
    MinSNR,
    Networks,
    Objective,
    SplitMeanFlow,
    VelocityAndScore,
)
from advect.parts import build, config_of
from advect.times import LogitNormal

ALL = [
    (FlowMatching(), Transport()),
    (FlowMatching(LogitNormal(), MinSNR()), Transport()),
    *((InterpolantLoss(field), Transport(interpolant=StochasticInterpolant())) for field in ("b", "v", "s", "eta")),
    (InterpolantLoss("b", antithetic=False, form="paper"), Transport(interpolant=StochasticInterpolant())),
    (VelocityAndScore(), Transport(interpolant=StochasticInterpolant())),
    (MeanFlow(), Transport()),
    (MeanFlow(derivative="differences", norm=None), Transport()),
    (SplitMeanFlow(velocity="data"), Transport()),
]
KERNELS = [
    (DTM(), Transport(interpolant=LinearChain())),
    (DTM(), Transport(interpolant=LinearChain((0.0, 0.5, 1.0)))),
    (ARTM(), Transport(interpolant=IndependentChain())),
    (ARTM(), Transport(interpolant=LinearChain((0.0, 0.3, 1.0), "next"))),
    (FHTM(), Transport(interpolant=IndependentChain())),
]
ALL += KERNELS
every = pytest.mark.parametrize(("objective", "transport"), ALL, ids=[repr(config_of(o)["init_args"]) for o, _ in ALL])


class Net(Network):
    def __init__(self) -> None:
        super().__init__(NetSpec((2,)))
        self.scale = nn.Parameter(torch.tensor(0.4))

    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Tensor:
        return self.scale * x + cond["label"].reshape(-1, *[1] * (x.ndim - 1))


class TinyKernel(nn.Module):
    """A transition kernel with one number to learn, told a state, a prefix or a history."""

    def __init__(self, sees: str) -> None:
        super().__init__()
        self.sees, self.scale = sees, nn.Parameter(torch.tensor(0.4))

    def tokens(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), 1, -1)

    def features(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.tokens(self.scale * x + cond["label"].reshape(-1, *[1] * (x.ndim - 1)))

    def teach(self, *seen: Any, **cond: Tensor) -> Tensor:
        states = seen[0][:-1] if self.sees == "history" else seen[:1]
        return torch.cat([self.features(x, x, **cond) for x in states], 1)

    def head(self, y: Tensor, s: Tensor, t: Tensor, h: Tensor) -> Tensor:
        return self.scale * y + h


def _nets(transport: Transport) -> Networks:
    path = transport.interpolant
    for objective, its_transport in KERNELS:
        if transport is its_transport:
            return Networks(TinyKernel(objective.sees), transport=transport)
    others = {"score": EtaScore(Net(), path)} if isinstance(path, StochasticInterpolant) else {}
    return Networks(Net(), others=others, transport=transport)


def _batch(shape: tuple[int, ...]) -> Batch:
    g = torch.Generator().manual_seed(1)
    return Batch(torch.randn(16, *shape, generator=g), {"label": torch.rand(16, generator=g)})


def test_every_objective_is_tested():
    members = {m for m in vars(objectives).values() if isinstance(m, type) and issubclass(m, Objective)} - {Objective}
    assert members == {type(o) for o, _ in ALL}


@every
@pytest.mark.parametrize("shape", [(), (2,), (3, 4, 4)], ids=str)
def test_one_number_per_sample_and_its_mean(objective: Objective, transport: Transport, shape: tuple[int, ...]):
    nets = _nets(transport)
    loss = objective(nets, _batch(shape), torch.Generator().manual_seed(0))
    assert loss.per_sample.shape == loss.t.shape == (16,)
    assert torch.allclose(loss.mean(), loss.per_sample.mean(), rtol=1e-5)
    loss.mean().backward()
    for role in ("model", *objective.needs):
        (scale,) = nets[role].parameters()
        assert torch.isfinite(scale.grad)
        assert scale.grad != 0


@every
def test_same_seed_same_loss_other_seed_other_loss(objective: Objective, transport: Transport):
    one, two, three = (
        objective(_nets(transport), _batch((2,)), torch.Generator().manual_seed(seed)).per_sample for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


@every
def test_config_brings_the_objective_back(objective: Objective, transport: Transport):
    again = build(config_of(objective))
    losses = [
        o(_nets(transport), _batch((2,)), torch.Generator().manual_seed(0)).per_sample for o in (objective, again)
    ]
    assert torch.equal(*losses)


@every
def test_the_weight_of_a_sample_multiplies_its_loss(objective: Objective, transport: Transport):
    nets = _nets(transport)
    batch = transport.pair(_batch((2,)), torch.Generator().manual_seed(0))
    weight = torch.arange(16.0) / 8
    plain, weighted = (
        objective(nets, b, torch.Generator().manual_seed(1)) for b in (batch, batch.replace(weight=weight))
    )
    assert torch.allclose(weighted.per_sample, weight * plain.per_sample, rtol=1e-5, atol=1e-6)
    assert torch.allclose(weighted.mean(), (weight * plain.per_sample).mean(), rtol=1e-5)
    assert torch.equal(weighted.logs["weight"], weight)
    assert "weight" not in plain.logs
