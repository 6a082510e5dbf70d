"""Distillation and reflow: the losses against formulas by hand, distances, seeds, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import advect
from advect.batch import Batch
from advect.couplings import Independent, Paired
from advect.distillation import (
    KStep,
    Mixed,
    OneStepEncoder,
    OnlineReflow,
    Perceptual,
    SquaredError,
    reflow_transport,
)
from advect.encoders import Pixels, SmallClassifier
from advect.errors import InputError
from advect.interpolants import Cosine, Linear, Scaled
from advect.objectives import FlowMatching, Networks
from advect.parts import build, config_of
from advect.solvers import Euler, Heun
from advect.times import TimeGrid

PAIRED = advect.Transport(coupling=Paired())


def linear(x, t, **cond):
    return 0.3 * x + t.reshape(-1, *[1] * (x.ndim - 1))


def batch(shape=(16, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(shape, generator=generator), x0=torch.randn(shape, generator=generator))


@pytest.mark.parametrize(
    "distance", [SquaredError(), Perceptual(Pixels()), Mixed(SquaredError(), Perceptual(Pixels()))]
)
def test_distances_vanish_on_equals_and_grow_with_the_difference(distance):
    x = batch((8, 1, 8, 8)).x1
    assert distance(x, x).shape == (8,)
    assert distance(x, x).abs().max() < 1e-10
    assert (distance(x + 0.5, x) > 0).all()


def test_perceptual_distance_compares_directions_of_features_and_lets_gradients_pass():
    x = batch((8, 1, 8, 8)).x1
    assert Perceptual(Pixels())(2 * x, x).abs().max() < 1e-5
    judge = SmallClassifier("digits")
    prediction = x.clone().requires_grad_(True)
    Perceptual(judge)(prediction, x.flip(0)).sum().backward()
    assert prediction.grad.abs().sum() > 0
    assert all(p.grad is None for p in judge.parameters())


def test_mixed_distance_is_the_weighted_sum():
    a, b = batch((8, 1, 8, 8)).x1, batch((8, 1, 8, 8), seed=1).x1
    mixed = Mixed(SquaredError(), Perceptual(Pixels()), 0.25)
    torch.testing.assert_close(mixed(a, b), SquaredError()(a, b) + 0.25 * Perceptual(Pixels())(a, b))


@pytest.mark.parametrize("k", [1, 3])
def test_k_step_with_another_distance_compares_the_end_points(k):
    pairs, nets = batch(), Networks(linear, transport=PAIRED)
    objective = KStep(k, Mixed(SquaredError(), SquaredError(), 0.0))
    loss = objective(nets, pairs, torch.Generator().manual_seed(3))
    t = objective.times.sample(16, torch.Generator().manual_seed(3))
    x = t[:, None] * pairs.x1 + (1 - t[:, None]) * pairs.x0
    end = x + (1 - t[:, None]) * linear(x, t)
    torch.testing.assert_close(loss.per_sample, (end - pairs.x1).square().mean(1))
    torch.testing.assert_close(loss.mean(), loss.per_sample.mean())


def test_k_step_weighs_pairs():
    pairs, nets = batch(), Networks(linear, transport=PAIRED)
    weight = torch.linspace(0, 2, 16)
    for distance in (None, Mixed(SquaredError(), SquaredError(), 0.0)):
        plain = KStep(2, distance)(nets, pairs, torch.Generator().manual_seed(0)).per_sample
        weighed = KStep(2, distance)(nets, pairs.replace(weight=weight), torch.Generator().manual_seed(0)).per_sample
        torch.testing.assert_close(weighed, weight * plain)


def test_one_step_encoder_looks_at_the_data_alone():
    seen = []

    def net(x, t):
        seen.append((x, t))
        return torch.zeros_like(x)

    pairs = batch()
    loss = OneStepEncoder()(Networks(net, transport=PAIRED), pairs)
    assert torch.equal(seen[0][0], pairs.x1)
    assert (seen[0][1] == 1).all()
    torch.testing.assert_close(loss.mean(), (pairs.x1 - pairs.x0).square().mean())


@pytest.mark.parametrize("objective", [KStep(2), OneStepEncoder()])
def test_curved_paths_are_refused(objective):
    nets = Networks(linear, transport=advect.Transport(coupling=Paired(), interpolant=Cosine()))
    with pytest.raises(InputError, match="the path is Cosine: distillation to k Euler steps holds"):
        objective(nets, batch())


def test_no_steps_are_refused():
    with pytest.raises(InputError, match="k is 0: a distilled sampler has at least 1 step"):
        KStep(0)


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(-0.5))
        self.calls, self.labels = 0, None

    def forward(self, x, t, label=None):
        self.calls, self.labels = self.calls + 1, label
        return self.a * x


@pytest.mark.parametrize(("solver", "steps", "calls"), [(Euler(), 20, 20), (Heun(), 5, 10)])
def test_online_pairs_are_the_ends_of_the_teachers_ode(solver, steps, calls):
    teacher, student = Teacher(), Teacher()
    nets = Networks(student, others={"teacher": teacher}, transport=reflow_transport(advect.Transport(), online=True))
    data = Batch(torch.full((64, 2), 9.0), cond={"label": torch.arange(64)})
    seen = {}

    class Keep(advect.objectives.FlowMatching):
        def loss(self, nets, batch, generator):
            seen["pairs"] = batch
            return super().loss(nets, batch, generator)

    objective = OnlineReflow(solver, TimeGrid(steps), Keep())
    loss = objective(nets, data, torch.Generator().manual_seed(0)).mean()
    loss.backward()
    pairs = seen["pairs"]
    torch.testing.assert_close(pairs.x1, solver(lambda x, t: -0.5 * x, pairs.x0, steps))
    assert teacher.calls == calls
    assert torch.equal(teacher.labels, torch.arange(64))
    assert teacher.a.grad is None
    assert student.a.grad is not None
    again = OnlineReflow(solver, TimeGrid(steps))(nets, data, torch.Generator().manual_seed(0)).mean()
    assert torch.equal(loss, again)


def test_online_pairs_start_at_the_state_that_the_path_has_for_x0():
    """On a path with g(0) = 2 the way begins at 2 x0, as it does where a Flow is sampled."""
    seen = {}

    class Keep(FlowMatching):
        def loss(self, nets, batch, generator):
            seen["batch"] = batch
            return super().loss(nets, batch, generator)

    path = Scaled(Linear(), 2.0)
    teacher = advect.Flow(linear, advect.Transport(interpolant=path), shape=(2,))
    nets = Networks(linear, others={"teacher": linear}, transport=reflow_transport(teacher.transport, online=True))
    OnlineReflow(Euler(), TimeGrid(3), Keep())(nets, batch())
    x0, x1 = seen["batch"].x0, seen["batch"].x1
    torch.testing.assert_close(x1, teacher.sample(16, x0=x0, solver=Euler(), grid=3))
    assert (x1 - Euler()(linear, x0, 3)).abs().max() > 0.1


def test_the_refusal_of_a_first_teacher_is_inherited():
    first = reflow_transport(advect.Transport())
    assert "another flow made" in first.score_refusal
    second = reflow_transport(advect.Transport(inherited_refusal="because of its coupling"))
    assert second.score_refusal == "because of its coupling"
    assert isinstance(reflow_transport(advect.Transport(), online=True).coupling, Independent)
    assert build(config_of(first)).score_refusal == first.score_refusal


@pytest.mark.parametrize(
    "part",
    [KStep(3), KStep(1, Mixed(SquaredError(), Perceptual(Pixels()), 0.1)), OneStepEncoder(), OnlineReflow(Heun())],
)
def test_parts_are_rebuilt_from_their_config(part):
    again = build(config_of(part))
    assert config_of(again) == config_of(part)
