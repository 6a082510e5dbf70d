"""Facts 1 and 6 of rectified flow (arXiv 2209.03003): the field that is regressed, and the time densities.

The formulas written here are the reference; the library is what is tested.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from advect.interpolants import Linear
from advect.objectives import CosMapWeight, FlowMatching
from advect.times import CosMap, FiniteSet, LogitNormal, Mode, TimeDensity, Uniform, UShaped

F64 = torch.float64


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _slope(x: Tensor, y: Tensor) -> float:
    x = x - x.mean()
    return float((x * y).sum() / x.square().sum())


@pytest.mark.parametrize(("t", "anchor"), [(0.1, -1.0769), (0.3, -1.2195), (0.7, -0.5882), (0.9, 0.5882)])
def test_fact_01_regression_finds_the_exact_field_of_a_gaussian(t: float, anchor: float):
    """v* = m + ((t s^2 - (1-t))/V) (x - t m); what the loss shows a network, regressed on a line, at one time."""
    m, s, n = 1.5, 0.5, 100_000
    V = t**2 * s**2 + (1 - t) ** 2
    slope, error = (t * s**2 - (1 - t)) / V, s / (V * math.sqrt(n))
    assert slope == pytest.approx(anchor, abs=5e-5)

    x1 = m + s * torch.randn(n, 1, generator=_seeded(1), dtype=F64)
    loss = FlowMatching(FiniteSet((t,)))(lambda x, t: x, x1, _seeded())
    x, v = loss.prediction, loss.target  # of a network that returns its input
    assert x is not None
    assert v is not None
    found = _slope(x, v)
    assert found == pytest.approx(slope, abs=4 * error)
    assert float(v.mean() + found * (t * m - x.mean())) == pytest.approx(m, abs=4 * error * math.sqrt(V) + 1e-9)
    # the path walked the other way, and the target with the other sign
    x0 = x1 - v
    assert abs(_slope((1 - t) * x1 + t * x0, v) - slope) > 0.5
    assert abs(_slope(x, -v) - slope) > max(1.0, 8 * error)


@pytest.mark.parametrize("t", [0.1, 0.9])
def test_fact_01_the_exact_field_is_where_the_gradient_vanishes(t: float):
    m, s, n = 1.5, 0.5, 100_000
    V = t**2 * s**2 + (1 - t) ** 2
    x1 = m + s * torch.randn(n, 1, generator=_seeded(1), dtype=F64)
    w = torch.tensor([(t * s**2 - (1 - t)) / V, m], dtype=F64, requires_grad=True)
    loss = FlowMatching(FiniteSet((t,)))(lambda x, t: w[0] * (x - float(t[0]) * m) + w[1], x1, _seeded())
    (gradient,) = torch.autograd.grad(loss.mean(), w)
    residual = math.sqrt(s**2 / V)  # E Var(v | x) = s^2 / V
    assert loss.mean().item() == pytest.approx(s**2 / V, rel=0.02)
    assert abs(float(gradient[0])) < 4 * 2 * residual * math.sqrt(V / n)
    assert abs(float(gradient[1])) < 4 * 2 * residual / math.sqrt(n)


def _draw(density: TimeDensity) -> Tensor:
    return density.sample(1_000_000, _seeded(), dtype=F64)


@pytest.mark.parametrize(
    ("density", "mean", "variance"),
    [(LogitNormal(), 0.5, 0.04338), (UShaped(4.0), 0.5, 0.1157), (Mode(1.29), 0.5, 0.0463), (CosMap(), 0.5, 0.0683)],
    ids=repr,
)
def test_fact_06_moments_of_the_time_densities(density: TimeDensity, mean: float, variance: float):
    t = _draw(density)
    assert float(t.mean()) == pytest.approx(mean, abs=1e-3)
    assert float(t.var()) == pytest.approx(variance, abs=1e-3)


def test_fact_06_masses_that_tell_the_densities_apart():
    u_shaped, mode = _draw(UShaped(4.0)), _draw(Mode(1.29))
    assert float(((u_shaped < 0.1) | (u_shaped > 0.9)).double().mean()) == pytest.approx(0.345, abs=2e-3)
    assert float(((mode - 0.5).abs() < 0.1).double().mean()) == pytest.approx(0.460, abs=2e-3)
    uniform = _draw(Uniform())
    assert float(((uniform < 0.1) | (uniform > 0.9)).double().mean()) == pytest.approx(0.2, abs=2e-3)
    # without its mirror image, the u-shaped density has mean .231
    one_sided = -torch.log(1 - uniform * (1 - math.exp(-4))) / 4
    assert float(one_sided.mean()) == pytest.approx(0.231, abs=1e-3)


def test_fact_06_cosmap_weight_is_a_density_with_the_variance_of_its_samples():
    t = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    weight = CosMapWeight()(t, Linear())
    assert float(weight.mean()) == pytest.approx(1.0, abs=1e-8)
    variance = float((weight * (t - 0.5) ** 2).mean())
    assert variance == pytest.approx(0.0683, abs=1e-4)
    assert float(_draw(CosMap()).var()) == pytest.approx(variance, abs=1e-3)
    tangent = torch.tan(math.pi / 2 * t)
    assert float((tangent / (1 + tangent)).var()) == pytest.approx(variance, abs=1e-4)


def test_fact_06_ends_and_direction():
    assert float(_draw(Uniform(1e-3)).min()) >= 1e-3
    assert float(_draw(LogitNormal(0.5)).mean()) > 0.55  # nearer to data
    assert float(_draw(LogitNormal(-0.5)).mean()) < 0.45
