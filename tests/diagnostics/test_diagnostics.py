"""Diagnostics: costs, straightness, histograms and orders against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from advect.diagnostics import (
    ErrorAtCost,
    error_against_calls,
    histogram,
    histogram_kl,
    measured_order,
    normal_kl,
    straightness,
    transport_cost,
)
from advect.errors import InputError
from advect.solvers import RK4, Euler, Heun
from advect.times import TimeGrid


def test_transport_cost_is_the_mean_power_of_the_euclidean_distance():
    x0 = torch.zeros(3, 1, 2)
    x1 = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[6.0, 8.0]]])
    for power, expected in ((1, 5.0), (2, 125 / 3), (0.5, (5**0.5 + 10**0.5) / 3)):
        assert float(transport_cost(x0, x1, power)) == pytest.approx(expected)


def test_straightness_of_a_rotation_has_a_closed_form():
    # z_t = R(w t) z_0, |v| = w |z|, |z1 - z0|^2 = 2 (1 - cos w) |z|^2, and int (z1 - z0).v dt = |z1 - z0|^2
    w, z = 1.3, torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def field(x, t):
        return w * torch.stack([-x[:, 1], x[:, 0]], 1)

    expected = (w**2 - 2 * (1 - math.cos(w))) * float(z.square().sum(1).mean())
    assert float(straightness(field, z, 400)) == pytest.approx(expected, rel=1e-4)
    assert float(straightness(lambda x, t: torch.ones_like(x), z, 5)) < 1e-24


def test_straightness_takes_conditions():
    z = torch.randn(6, 2)
    label = torch.arange(6)
    value = straightness(lambda x, t, label: t * label[:, None].expand_as(x), z, 100, label=label)
    # v = t l per coordinate: int (l/2 - t l)^2 dt = l^2/12, two coordinates
    assert float(value) == pytest.approx(float((label.double() ** 2 / 6).mean()), rel=1e-3)


def test_histogram_counts_cells_and_leaves_out_what_lies_outside():
    x = torch.tensor([[-4.9, -4.9], [-4.9, -4.9], [4.9, -4.9], [6.0, 0.0], [0.0, -5.1]])
    counts = histogram(x, bins=2)
    assert counts.tolist() == [[2.0, 0.0], [1.0, 0.0]]


def test_histogram_kl_is_zero_on_equals_and_as_computed_by_hand():
    x, y = torch.tensor([[-1.0, -1.0]] * 3 + [[1.0, 1.0]]), torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    assert float(histogram_kl(x, x, bins=2)) == 0
    p = [3.1 / 4.4, 0.1 / 4.4, 0.1 / 4.4, 1.1 / 4.4]
    q = [1.1 / 2.4, 0.1 / 2.4, 0.1 / 2.4, 1.1 / 2.4]
    by_hand = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(histogram_kl(x, y, bins=2)) == pytest.approx(by_hand)


def test_orders_of_known_solvers_are_measured():
    x = torch.ones(3, 1, dtype=torch.float64)
    for solver, order, per_step in ((Euler(), 1, 1), (Heun(), 2, 2), (RK4(), 4, 4)):
        runs = error_against_calls(solver, lambda x, t: -x, x, x * math.exp(-1), [20, 40], TimeGrid(1))
        assert measured_order(runs) == pytest.approx(order, abs=0.1)
        assert [run.calls for run in runs] == [20 * per_step, 40 * per_step]
        assert [run.steps for run in runs] == [20, 40]


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"x has shape \(3, 1\): a planar histogram takes"):
        histogram(torch.zeros(3, 1))
    with pytest.raises(InputError, match="smoothing is 0"):
        histogram_kl(torch.zeros(3, 2), torch.zeros(3, 2), smoothing=0)
    with pytest.raises(InputError, match="an order takes two runs, not 1"):
        measured_order([ErrorAtCost(1, 1, 0.1)])
    with pytest.raises(InputError, match="show no order"):
        measured_order([ErrorAtCost(1, 1, 0.1), ErrorAtCost(1, 1, 0.1)])


def test_normal_kl_sees_shift_and_spread():
    x = 1 + 2 * torch.randn(400_000, 1, generator=torch.Generator().manual_seed(0))
    assert float(normal_kl(x, 1, 2)) < 2e-4  # (bins - 1) / (2 N) on average
    shifted, wider = float(normal_kl(x + 0.4, 1, 2)), float(normal_kl(1 + (x - 1) * 1.25, 1, 2))
    assert shifted == pytest.approx(0.2**2 / 2, rel=0.05)  # KL of equal normals d apart: d^2 / (2 std^2)
    assert wider == pytest.approx(math.log(1.25) + 0.5 / 1.25**2 - 0.5, rel=0.05)  # KL(N || its wider copy)
