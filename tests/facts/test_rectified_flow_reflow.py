"""Facts of rectified flow: reflow, distillation, straightness, transport costs (docs/systems/rectified-flow.md).

N(0, 1) -> N(m, s^2) in one dimension, and N(0, I) -> eight Gaussians (radius 4, std 0.3) in two. The exact velocities
below are the references; solvers, objectives, pairs and diagnostics are what is tested.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import advect
from advect.batch import Batch
from advect.couplings import Independent, Paired
from advect.data import EightGaussians, StoredPairs
from advect.diagnostics import cost_balance, nonintersection, straightness, transport_cost
from advect.distillation import KStep, OnlineReflow, reflow_transport
from advect.errors import InputError
from advect.files import hash_tensors
from advect.metrics import sliced_w2
from advect.networks import MLP
from advect.objectives import FlowMatching, Networks
from advect.solvers import RK4, Euler
from advect.training import ConstantEMA, make_pairs, reflow, reflow_online

M = 1.5


def exact(s, m=M):
    """v*(x, t) for N(0, 1) -> N(m, s^2), independent coupling."""

    def velocity(x, t):
        t = t.reshape(-1, 1)
        return m + (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2) * (x - t * m)

    return velocity


def straight(s, m=M):
    """The velocity of the pairs (z, m + s z): every path is a straight line and none cross."""

    def velocity(x, t):
        t = t.reshape(-1, 1)
        return m + (s - 1) * (x - t * m) / (1 - t + t * s)

    return velocity


def normal(n, d=1, seed=0):
    """Quasi-random standard normal numbers (n, d), whose means converge faster than those of random ones."""
    u = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed).draw(n, dtype=torch.float64)
    return math.sqrt(2) * torch.erfinv(2 * u.clamp(1e-12, 1 - 1e-12) - 1)


CENTRES = 4 * torch.tensor([[math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)] for k in range(8)]).double()


def eight(x, t):
    """v*(x, t) for N(0, I) -> eight Gaussians, from the posterior of the mode and the mean of x1 - x0 in it."""
    t = t.reshape(-1, 1)
    variance = t**2 * 0.09 + (1 - t) ** 2
    rest = x[:, None] - t[..., None] * CENTRES
    share = torch.softmax(-rest.square().sum(2) / (2 * variance), 1)
    each = CENTRES + ((t * 0.09 - (1 - t)) / variance)[..., None] * rest
    return (share[..., None] * each).sum(1)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.0, 2.0])
def test_fact_02_ode_map_of_a_gaussian_is_affine_and_cheaper_than_the_coupling(s):
    z0 = normal(4096)
    z1 = RK4()(exact(s), z0, 100)
    torch.testing.assert_close(z1, M + s * z0, rtol=0, atol=1e-6)
    cost = transport_cost(z0, z1)
    torch.testing.assert_close(cost, torch.tensor(M**2 + (1 - s) ** 2).double(), rtol=2e-3, atol=0)
    x1 = M + s * normal(4096, 2, seed=1)[:, :1]
    assert cost < transport_cost(z0[torch.randperm(4096, generator=torch.Generator().manual_seed(0))], x1)
    assert cost < M**2 + 1 + s**2


@pytest.mark.parametrize("s", [0.5, 2.0])
def test_fact_03_reflow_has_a_fixed_point_and_shuffled_pairs_are_not_it(s):
    z0 = normal(4096)
    z1 = M + s * z0
    field, nets = straight(s), Networks(straight(s), transport=advect.Transport(coupling=Paired()))
    generator = torch.Generator().manual_seed(0)
    assert FlowMatching()(nets, Batch(z1, x0=z0), generator).mean() < 1e-12
    assert straightness(field, z0) < 1e-12
    torch.testing.assert_close(Euler()(field, z0, 1), RK4()(field, z0, 100), rtol=0, atol=1e-12)
    order = torch.randperm(len(z0), generator=generator)
    shuffled = nonintersection(field, z0[order], z1, generator=generator)
    assert shuffled > 0.97 * s * math.pi / 2  # the least loss of any field on independent pairs


def test_fact_04_every_convex_cost_falls():
    z0 = normal(8192, 2)
    z1 = RK4()(eight, z0, 60)
    for power, expected in ((1, 2.78), (2, 7.87), (4, 65.2)):
        assert float(transport_cost(z0, z1, power)) == pytest.approx(expected, rel=0.01)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(400_000, 2, generator=generator)
    x1 = EightGaussians().draw(400_000, generator)
    for power, expected in ((1, 4.14), (2, 18.18), (4, 405)):
        assert float(transport_cost(x0, x1, power)) == pytest.approx(expected, rel=0.01)
    # the balance of fact 12 leaves 18.18 - 7.87 - 7.44; a left-hand rule of 100 steps reads 2.95
    assert float(straightness(eight, z0)) == pytest.approx(2.875, rel=0.01)


class Watch(advect.objectives.Objective):
    """Keeps what reaches the objective, and trains a little so that the loop has something to do."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def loss(self, nets, batch, generator):
        self.seen.append((batch.x0.clone(), batch.x1.clone()))
        return FlowMatching().loss(nets, batch, generator)


def test_fact_05_training_on_pairs_never_pairs_anew(tmp_path):
    teacher = advect.Flow(straight(0.5), shape=(1,))
    pairs = make_pairs(teacher, 500, tmp_path, solver=RK4(), steps=4)
    watch = Watch()
    net = MLP(advect.NetSpec((1,)), hidden=(8,))
    advect.train(
        net,
        pairs,
        objective=watch,
        transport=reflow_transport(teacher.transport),
        steps=20,
        batch_size=64,
        device="cpu",
    )
    for x0, x1 in watch.seen:
        torch.testing.assert_close(x1, M + 0.5 * x0, rtol=0, atol=1e-5)
    assert len({float(x0[0]) for x0, _ in watch.seen}) > 10
    with pytest.raises(InputError, match="the data bring no x0"):  # drawing a new x0 is not possible by accident
        advect.train(net, torch.randn(64, 1), transport=reflow_transport(teacher.transport), steps=1, batch_size=64)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """1-RF on the eight Gaussians, then fine-tuned on its pairs, and on the same pairs shuffled."""
    settings = {"steps": 3000, "batch_size": 512, "lr": 2e-3, "ema": ConstantEMA(0.999), "device": "cpu"}
    data = EightGaussians()
    first = advect.train(lambda spec: MLP(spec, hidden=(96,) * 3), data, seed=1, **settings)
    pairs = make_pairs(first, 30_000, tmp_path_factory.mktemp("pairs"), solver=RK4(), steps=40, batch_size=4096)
    batch = pairs.batch("train", torch.arange(30_000))
    order = torch.randperm(30_000, generator=torch.Generator().manual_seed(0))
    shuffled = advect.data.Tensors(batch.x1, x0=batch.x0[order])
    return data, first, reflow(first, pairs, seed=2, **settings), reflow(first, shuffled, seed=2, **settings)


@pytest.mark.slow
def test_fact_05_true_pairs_cut_the_one_step_error_and_shuffled_ones_do_not(toy):
    data, first, second, control = toy
    target = data.draw(8000, torch.Generator().manual_seed(5))
    error = {
        name: float(sliced_w2(flow.sample(8000, seed=3, solver=Euler(), grid=1, batch_size=8000), target))
        for name, flow in (("first", first), ("second", second), ("control", control))
    }
    assert error["first"] == pytest.approx(2.75, rel=0.06)
    assert error["first"] / error["second"] > 8
    assert error["control"] > error["first"] / 1.2


@pytest.mark.slow
def test_fact_04_convex_costs_fall_for_a_trained_network_too(toy):
    _, first, _, _ = toy
    z0 = torch.randn(50_000, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z1 = RK4()(first.network, z0, 60)
    for power, expected in ((1, 2.78), (2, 7.86), (4, 65.2)):
        assert float(transport_cost(z0, z1, power)) == pytest.approx(expected, rel=0.01)


class Recorder(nn.Module):
    """A network that keeps every state and time it is shown; `scale` is the time unit of a foreign network."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale, self.layer, self.states, self.times = scale, nn.Linear(3, 2), [], []

    def forward(self, x, t, **cond):
        t = (self.scale * t).expand(x.shape[0]) if t.ndim == 0 else self.scale * t
        self.states.append(x.detach().clone())
        self.times.append(t.detach().clone())
        return self.layer(torch.cat([x, t[:, None]], 1))


def only(times, allowed):
    return all((seen[:, None] == torch.tensor(allowed)[None]).any(1).all() for seen in times)


@pytest.mark.parametrize("scale", [1.0, 999.0])
@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_fact_08_distillation_shows_the_network_only_the_times_of_its_sampler(k, scale):
    z0 = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    z1 = 3 * z0 + 1
    net, times = Recorder(scale), [scale * i / k for i in range(k)]
    nets = Networks(net, transport=advect.Transport(coupling=Paired()))
    KStep(k)(nets, Batch(z1, x0=z0), torch.Generator().manual_seed(1)).mean().backward()
    assert only(net.times, times)
    assert len(torch.cat(net.times).unique()) == k
    if k == 1:
        assert torch.equal(net.states[0], z0)
        assert not torch.equal(net.states[0], 1e-3 * z1 + (1 - 1e-3) * z0)  # the published input leaks the answer
    assert not only([torch.tensor([scale * (j * (1 - 1e-3) / k + 1e-3) for j in range(k)])], times)

    net.times.clear()
    run = advect.Run()
    Euler()(net, z0, k, run)
    assert run.nfe == k
    assert [float(t[0]) for t in net.times] == pytest.approx(times, abs=0)


def test_fact_08_the_squared_error_and_the_end_point_error_of_one_step_are_the_same():
    z0, net = torch.randn(64, 2), Recorder()
    nets = Networks(net, transport=advect.Transport(coupling=Paired()))
    loss = KStep(1)(nets, Batch(2 * z0, x0=z0)).mean()
    torch.testing.assert_close(loss, (z0 + net(z0, torch.zeros(64)) - 2 * z0).square().mean())


class Constant(nn.Module):
    """v = b, so that z1 = z0 + b tells which weights made the pairs."""

    def __init__(self):
        super().__init__()
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, x, t, **cond):
        return self.b.expand_as(x)


def test_fact_10_pairs_come_from_the_averaged_weights_and_the_teacher_stays_as_it_is(tmp_path):
    data = torch.full((256, 1), 5.0)
    settings = {"batch_size": 64, "lr": 0.1, "optimizer": "sgd", "schedule": "constant", "warmup": 0, "clip": None}
    raw = Constant()
    flow = advect.train(raw, data, steps=4, ema=ConstantEMA(0.9), device="cpu", **settings)
    assert (raw.b - flow.network.b).abs().detach() > 0.2

    batch = make_pairs(flow, 64, tmp_path, solver=Euler(), steps=3).batch("train", torch.arange(64))
    torch.testing.assert_close(batch.x1 - batch.x0, flow.network.b.detach().expand(64, 1), rtol=0, atol=1e-5)

    watch = Watch()
    objective = OnlineReflow(objective=watch)
    before = hash_tensors(flow.network.state_dict())
    student = reflow_online(
        flow, advect.data.Tensors(data), objective=objective, steps=5, ema=None, device="cpu", **settings
    )
    assert hash_tensors(flow.network.state_dict()) == before
    assert student.network is not flow.network
    for x0, x1 in watch.seen:
        torch.testing.assert_close(x1 - x0, flow.network.b.detach().expand(64, 1), rtol=0, atol=1e-5)
    assert flow.score_refusal is None
    assert "another flow made" in student.score_refusal


def test_fact_10_reflow_refuses_a_transport_that_claims_a_score():
    nets = Networks(Constant(), others={"teacher": Constant()}, transport=advect.Transport(coupling=Independent()))
    with pytest.raises(InputError, match="which reflow takes away"):
        OnlineReflow()(nets, torch.randn(8, 1))


@pytest.mark.parametrize("s", [0.5, 1.0, 2.0])
def test_fact_11_closed_forms_of_straightness_and_crossing(s):
    z0 = normal(4096)
    crossing, bend = s * math.pi / 2, s * (2 - math.pi / 2)
    assert float(straightness(exact(s), z0, 100)) == pytest.approx(bend, rel=0.01)
    both = normal(2**18, 3)
    x0, x1, t = both[:, :1], M + s * both[:, 1:2], torch.special.ndtr(both[:, 2])
    field = exact(s)
    point = torch.lerp(x0, x1, t[:, None])
    lazy = float((x1 - x0 - field(point, t)).square().mean())
    assert lazy == pytest.approx(crossing, rel=0.01)
    found = nonintersection(field, x0, x1, generator=torch.Generator().manual_seed(0))
    assert float(found) == pytest.approx(crossing, rel=0.01)
    assert abs(lazy / bend - 1) > 0.5  # the training interpolation instead of the trajectory: another number


@pytest.mark.parametrize("s", [0.5, 2.0])
def test_fact_12_costs_balance_for_a_gaussian(s):
    both = normal(2**17, 2)
    x0, x1 = both[:, :1], M + s * both[:, 1:]
    balance = cost_balance(exact(s), x0, x1, generator=torch.Generator().manual_seed(0))
    expected = (M**2 + 1 + s**2, M**2 + (1 - s) ** 2, s * (2 - math.pi / 2), s * math.pi / 2)
    assert [float(v) for v in balance] == pytest.approx(expected, rel=0.01)
    assert abs(float(balance.gap)) < 0.01


def test_fact_12_costs_balance_for_eight_gaussians():
    generator = torch.Generator().manual_seed(0)
    x0 = normal(20_000, 2)
    x1 = EightGaussians().draw(20_000, generator).double()
    balance = cost_balance(eight, x0, x1, 60, generator=generator)
    assert [float(v) for v in balance] == pytest.approx((18.18, 7.87, 2.875, 7.43), rel=0.01)
    assert abs(float(balance.gap)) < 0.01


@pytest.mark.slow
def test_fact_12_costs_balance_for_a_trained_network(toy):
    data, first, _, _ = toy
    generator = torch.Generator().manual_seed(0)
    x1 = data.draw(100_000, generator)
    x0 = torch.randn(100_000, 2, generator=generator)
    with torch.no_grad():
        balance = cost_balance(first.network, x0, x1, 60, generator=generator)
    assert abs(float(balance.gap)) < 0.03


def test_a_copy_of_the_flow_is_trained_and_not_the_flow(tmp_path):
    flow = advect.Flow(MLP(advect.NetSpec((1,)), hidden=(8,)))
    before = copy.deepcopy(flow.network.state_dict())
    pairs = make_pairs(flow, 64, tmp_path, solver=Euler(), steps=2)
    student = reflow(flow, pairs, objective=KStep(2), steps=5, batch_size=32, device="cpu")
    assert all(torch.equal(before[name], value) for name, value in flow.network.state_dict().items())
    assert not torch.equal(student.network.state_dict()["layers.0.weight"], before["layers.0.weight"])
    run = advect.Run()
    student.sample(4, seed=0, run=run)
    assert run.nfe == 2
    assert isinstance(pairs, StoredPairs)
    assert student.score_refusal == pairs.score_refusal
