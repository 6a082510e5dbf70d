"""Facts 7 to 11 of MeanFlow and SplitMeanFlow: gradients, the adaptive norm, guidance in the target, calls, pairs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advect import Batch, NetSpec
from advect.conditions import ClassLabel, Conditions
from advect.derivatives import jvp
from advect.fields import Run, bind
from advect.guidance import CFG, Guided
from advect.networks import MLP, Network
from advect.objectives import AdaptiveNorm, MeanFlow, Networks, Objective, SplitMeanFlow, TargetGuidance
from advect.solvers import FlowMapJumps
from advect.times import ClippedPairs, FiniteSet, LogitNormal, SortedPairs, TimeGrid, Uniform

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(*conditions: ClassLabel) -> MLP:
    torch.manual_seed(0)
    return MLP(NetSpec((3,), conditions, times=2), hidden=(16, 16), frequencies=1).double()


def batch(n: int = 12) -> Batch:
    draw = seeded(7)
    x1, x0 = (torch.randn(n, 3, generator=draw, dtype=F64) for _ in range(2))
    return Batch(2 * x1, x0=x0)


class Shown(MeanFlow):
    """MeanFlow with its target attached to the graph: what must not happen."""

    def target(
        self, nets: Networks, batch: Batch, x: Tensor, v: Tensor, r: Tensor, t: Tensor, generator: Any
    ) -> Tensor:
        one, zero = torch.ones_like(r), torch.zeros_like(t)
        return v + (t - r)[:, None] * jvp(nets.model, (x, r, t), (v, one, zero))[1]


def gradient(net: nn.Module, scalar: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(scalar, list(net.parameters()))])


def _frozen(net: MLP, objective: Objective) -> tuple[Tensor, Tensor]:
    """The prediction with its graph, and the target as numbers, of the same draws."""
    loss = objective(Networks(net, others={"teacher": lambda x, t: -x}), batch(), seeded(3))
    assert loss.prediction is not None
    assert loss.target is not None
    assert not loss.target.requires_grad
    return loss.prediction, loss.target.clone()


@pytest.mark.filterwarnings("ignore:norm is AdaptiveNorm")  # the law holds there too
@pytest.mark.parametrize(
    "make", [lambda **k: MeanFlow(SortedPairs(Uniform(), 0.25), **k), SplitMeanFlow], ids=["MeanFlow", "SplitMeanFlow"]
)
@pytest.mark.parametrize("power", [None, 0.0, 0.75, 1.0], ids=str)
def test_fact_07_the_gradient_is_that_of_frozen_targets_and_weights(make, power: float | None):
    net = network()
    objective = make(norm=None if power is None else AdaptiveNorm(power, 0.3))
    mine = gradient(net, objective(Networks(net, others={"teacher": lambda x, t: -x}), batch(), seeded(3)).mean())
    u, target = _frozen(net, objective)
    error = (u - target).square().sum(1)
    scalar = error.mean() / 3 if power is None else (error / (error.detach() + 0.3) ** power).mean()
    assert float((mine - gradient(net, scalar)).abs().max()) < 1e-12
    if power:  # a weight that is left attached
        u, target = _frozen(net, objective)
        error = (u - target).square().sum(1)
        attached = gradient(net, (error / (error + 0.3) ** power).mean())
        assert float((mine - attached).abs().max()) > 1e-3


def test_fact_07_an_attached_target_has_another_gradient():
    net, pairs = network(), SortedPairs(Uniform(), 0.0)
    mine, shown = (gradient(net, o(net, batch(), seeded(3)).mean()) for o in (MeanFlow(pairs), Shown(pairs)))
    values = [float(o(net, batch(), seeded(3)).mean().detach()) for o in (MeanFlow(pairs), Shown(pairs))]
    assert values[0] == pytest.approx(values[1], abs=1e-12)  # the same loss
    assert float((mine - shown).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("power", "eps", "slope"), [(1.0, 0.01, 0.027020), (0.75, 1e-3, 0.066656), (0.0, 0.01, 1.0)], ids=str
)
def test_fact_08_adaptive_power(power: float, eps: float, slope: float):
    """L = 37 = 1 + 36 summed over coordinates; d(mean of w L)/dL of one sample, with w frozen."""
    prediction = torch.tensor([[1.0, 6.0]], dtype=F64)
    weight = AdaptiveNorm(power, eps).weight(prediction, torch.zeros_like(prediction))
    assert float(weight) == pytest.approx(slope, abs=5e-7)
    mean_over_dims = (37 / 2 + eps) ** -power
    assert power == 0 or abs(float(weight) - mean_over_dims) > 0.01


def test_fact_08_the_weight_takes_sums_over_coordinates_and_the_loss_the_mean_over_samples():
    net = network()
    loss = MeanFlow(norm=AdaptiveNorm(0.75, 1e-3))(net, batch(), seeded(3))
    u, target = _frozen(net, MeanFlow(norm=AdaptiveNorm(0.75, 1e-3)))
    error = (u - target).square().sum(1)
    torch.testing.assert_close(loss.per_sample, error / (error + 1e-3) ** 0.75)
    torch.testing.assert_close(loss.mean(), (error / (error + 1e-3) ** 0.75).mean())


def _guided(rule: TargetGuidance, model: Any, v: Tensor, **more: Any) -> Tensor:
    x, r = torch.zeros_like(v), torch.full((len(v),), 0.4, dtype=F64)
    return rule(model, x, r, v, Batch(x, {"label": torch.arange(len(v))}, **more))


def test_fact_09_plain_settings_are_the_velocity():
    v = torch.randn(5, 2, generator=seeded(), dtype=F64)

    def never(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("no call is needed")

    assert torch.equal(_guided(TargetGuidance(1.0, 0.0), never, v), v)


@pytest.mark.parametrize(("omega", "kappa"), [(1.0, 0.5), (2.0, 0.0), (0.8, 0.6)])
def test_fact_09_the_fixed_point_has_the_effective_scale(omega: float, kappa: float):
    rule = TargetGuidance(omega, kappa)
    v, null = (torch.randn(5, 2, generator=seeded(k), dtype=F64) for k in (1, 2))
    learnt = {"u": torch.zeros_like(v)}

    def model(x: Tensor, r: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        assert torch.equal(r, t)
        return null if label is None else learnt["u"]

    expected = null + omega / (1 - kappa) * (v - null)
    assert rule.scale == pytest.approx(omega / (1 - kappa))
    start = float((expected - learnt["u"]).abs().max())
    for _ in range(20):
        learnt["u"] = _guided(rule, model, v)
    error = float((learnt["u"] - expected).abs().max())
    assert error <= 1.01 * kappa**20 * start + 1e-12
    if kappa:
        assert error > 0.5 * kappa**20 * start  # the rate is kappa, no faster


def test_fact_09_outside_its_interval_and_where_conditions_were_dropped_it_is_the_plain_velocity():
    v = torch.randn(4, 2, generator=seeded(), dtype=F64)

    def model(x: Tensor, r: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.full_like(x, 2.0 if label is None else 9.0)

    for low, high, inside in ((0.0, 0.3, False), (0.5, 1.0, False), (0.3, 0.5, True)):
        out = _guided(TargetGuidance(1.0, 0.5, low, high), model, v)
        assert torch.equal(out, v) != inside
    dropped = torch.tensor([True, False, True, False])
    out = _guided(TargetGuidance(1.0, 0.5), model, v, dropped=dropped)
    assert torch.equal(out[dropped], v[dropped])
    assert not (out[~dropped] == v[~dropped]).any()


class Counting(Network):
    """A flow map of one weight that notes every call: rows, a label or none, a graph or none, dropout or none."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__(spec)
        self.weight = nn.Parameter(torch.tensor(0.5, dtype=F64))
        self.calls: list[tuple[int, bool, bool, bool]] = []

    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Tensor:
        self.calls.append((x.shape[0], "label" in cond, torch.is_grad_enabled(), self.training))
        return self.weight * x * times[-1].reshape(-1, 1)


def _counted(objective: Objective, guidance: tuple[CFG, ...] = ()) -> tuple[list[Any], list[int]]:
    """Calls of the student (rows, conditional, with a graph, in training), and the rows of those of the teacher."""
    label = ClassLabel(3)
    student, rows = Counting(NetSpec((2,), (label,), times=2)), []

    def teacher(x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        rows.append(len(x))
        return -x

    field = Guided(teacher, guidance, Conditions((label,), {"label": 0.1})) if guidance else teacher
    ones = torch.ones(16, 2, dtype=F64)
    data = Batch(ones, {"label": torch.zeros(16, dtype=torch.long)}, x0=0 * ones)
    objective(Networks(student, others={"teacher": field}), data, seeded()).mean().backward()
    return student.calls, rows


def test_fact_10_a_batch_of_splits_is_three_calls_and_one_of_them_has_a_graph():
    objective = SplitMeanFlow()
    objective.pairs = ClippedPairs(FiniteSet((0.2,)), FiniteSet((0.7,)), 0.0)
    calls, teacher = _counted(objective)
    assert calls == [(16, True, False, False), (16, True, False, False), (16, True, True, True)]
    assert not teacher


def test_fact_10_a_mixed_batch_asks_the_teacher_once_on_its_rows_and_still_has_one_graph():
    for guidance, rows in (((), 8), ((CFG(2.0),), 16)):  # a guided pair is one call of twice the rows
        calls, teacher = _counted(SplitMeanFlow(), guidance)
        assert calls == [(8, True, False, False), (8, True, False, False), (16, True, True, True)]
        assert teacher == [rows]


@pytest.mark.parametrize(
    ("guidance", "extra"), [(None, 0), (TargetGuidance(2.0, 0.0), 1), (TargetGuidance(1.0, 0.5), 2)]
)
def test_fact_10_meanflow_is_one_derivative_and_the_calls_of_guidance(guidance: TargetGuidance | None, extra: int):
    calls, _ = _counted(MeanFlow(guidance=guidance))
    guiding, derivative, last = calls[:extra], calls[extra], calls[extra + 1 :]
    assert derivative == (4, True, False, True)  # of a quarter of the samples, without a graph
    assert last == [(16, True, True, True)]
    assert all(rows == 16 and not graph and not training for rows, _, graph, training in guiding)
    assert [conditional for _, conditional, _, _ in guiding] == [False, True][:extra]


@pytest.mark.parametrize("k", [1, 2, 7])
def test_fact_10_k_jumps_are_k_calls_with_one_label_stream(k: int):
    net, run = Counting(NetSpec((2,), (ClassLabel(3),), times=2)), Run()
    label = torch.tensor([0, 1, 2])
    FlowMapJumps()(bind(net, run, label=label), torch.ones(3, 2, dtype=F64), TimeGrid(k), run)
    assert run.nfe == k
    assert run.rows["model"] == 3 * k
    assert len(net.calls) == k


def test_fact_11_the_share_at_the_boundary_of_imagenet_is_a_count_of_the_first_rows():
    pairs = SortedPairs(LogitNormal(0.4, 1.0), 0.75, "first")
    for n in (16, 250, 1001):
        r, t = pairs.sample(n, seeded())
        assert torch.equal(r == t, torch.arange(n) < int(0.75 * n))
        assert bool((r <= t).all())


def test_fact_11_shares_of_the_two_cifar_samplers():
    n = 100_000
    first, second = SortedPairs(LogitNormal(2.0, 2.0), 0.25, "random"), ClippedPairs()
    mass = 0.5 * math.erfc(3.4 / (1.6 * math.sqrt(2)) / math.sqrt(2))  # Phi(-3.4 / (1.6 sqrt 2))
    assert 0.25 + 0.75 * mass == pytest.approx(0.29986, abs=1e-5)
    for pairs, share in ((first, 0.25), (second, 0.29986)):
        r, t = pairs.sample(n, seeded())
        assert bool((r <= t).all())
        assert float((r == t).float().mean()) == pytest.approx(share, abs=0.006)


def test_fact_11_noise_levels_are_mirrored_and_the_start_is_the_smaller_time():
    n = 200_000
    r, t = SortedPairs(LogitNormal(0.4, 1.0), 0.0).sample(n, seeded())
    both = torch.logit(torch.cat([1 - r, 1 - t]).double())  # back to levels of noise
    assert float(both.mean()) == pytest.approx(-0.4, abs=0.01)
    assert float(both.std()) == pytest.approx(1.0, abs=0.01)
    # the larger of two standard normal numbers has mean 1/sqrt(pi): the start is the noisier of the two
    assert float(torch.logit(1 - r.double()).mean()) == pytest.approx(-0.4 + math.pi**-0.5, abs=0.01)
    start, end = ClippedPairs(boundary=0.0).sample(n, seeded())
    assert float(torch.logit(1 - start.double()).mean()) == pytest.approx(-0.6, abs=0.02)
    kept = end > start
    assert float(torch.logit(1 - end[kept].double()).mean()) < -4.0


def test_fact_11_samples_that_lost_their_conditions_are_at_the_boundary_first():
    dropped = torch.zeros(40, dtype=torch.bool)
    dropped[[3, 17, 38, 39]] = True
    r, t = SortedPairs().sample(40, seeded(), dropped=dropped)
    assert int((r == t).sum()) == 30
    assert bool((r == t)[dropped].all())
    r, t = SortedPairs(boundary=0.25, choice="random").sample(
        4000, seeded(), dropped=torch.ones(4000, dtype=torch.bool)
    )
    assert float((r == t).float().mean()) == pytest.approx(0.25, abs=0.03)  # independent masks stay independent
