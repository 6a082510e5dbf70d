"""Straightness and bits per dimension, in closed form.

N(0, 1) to N(m, s^2) in one dimension, independent pairs, straight path: S = s (2 - pi / 2), crossing L = s pi / 2,
whatever m is.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from advect import InputError
from advect.metrics import bits_per_dimension, straightness
from advect.metrics.trajectories import straightness_per_sample
from advect.solvers import RK4, Euler, Trajectory

M, S = 1.0, 0.5


def velocity(x, t):
    return M + ((t * S**2 - (1 - t)) / (t**2 * S**2 + (1 - t) ** 2)) * (x - t * M)


def pairs(n: int = 60):
    """All n^2 pairs of n quantiles of a normal, made to have mean 0 and variance 1: every second moment is exact."""
    p = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    q = torch.distributions.Normal(0.0, 1.0).icdf(p)
    q = (q - q.mean()) / q.square().mean().sqrt()
    x0, z = torch.cartesian_prod(q, q).T[:, :, None]
    return x0, M + S * z


def test_straightness_of_the_exact_field():
    x0, _ = pairs()
    found = straightness(RK4()(velocity, x0, 100, record=True))
    want = S * (2 - math.pi / 2)
    assert found.value == pytest.approx(want, rel=1e-3)
    assert found.low < want < found.high


def test_the_quadrature_is_of_second_order():
    x0 = torch.tensor([[1.0]], dtype=torch.float64)
    values = [straightness_per_sample(RK4()(velocity, x0, n, record=True)).item() for n in (20, 40, 80, 2000)]
    errors = [abs(v - values[-1]) for v in values[:3]]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.4)
    # z = m t + x0 sqrt(V(t)): its velocity less the chord, squared and integrated, scales with x0^2 alone
    assert values[-1] == pytest.approx(S * (2 - math.pi / 2), rel=1e-4)


def test_on_the_interpolation_it_would_be_the_training_loss():
    x0, x1 = pairs()
    times = [i / 100 for i in range(101)]
    states = torch.stack([t * x1 + (1 - t) * x0 for t in times])
    velocities = torch.stack([velocity(x, t) for x, t in zip(states, times[:-1], strict=False)])
    lazy = straightness(Trajectory(states, velocities, times))
    assert lazy.value == pytest.approx(S * math.pi / 2, rel=0.01)  # not S: this is how the wrong one shows


def test_a_straight_flow_has_none():
    x0, _ = pairs(100)
    assert straightness(Euler()(lambda x, t: torch.ones_like(x), x0, 7, record=True)).value < 1e-20
    reflowed = RK4()(lambda x, t: M + (S - 1) * (x - t * M) / (1 - t + t * S), x0, 20, record=True)
    assert straightness(reflowed).value < 1e-10


def test_cost_of_the_pairs_is_cost_of_the_flow_and_straightness_and_crossing():
    x0, x1 = pairs()
    run = RK4()(velocity, x0, 100, record=True)
    paired, carried = ((b - a).square().mean().item() for a, b in ((x0, x1), (x0, run.states[-1])))
    assert paired == pytest.approx(M**2 + 1 + S**2, rel=1e-6)
    assert carried == pytest.approx(M**2 + (1 - S) ** 2, rel=1e-6)
    assert carried + straightness(run).value + S * math.pi / 2 == pytest.approx(paired, rel=1e-3)


def test_refusals():
    x0, _ = pairs(10)
    half = RK4()(velocity, x0, [0.0, 0.25, 0.5], record=True)
    with pytest.raises(InputError, match=r"runs from 0.0 to 0.5: straightness is defined from 0 to 1"):
        straightness(half)


@pytest.mark.parametrize(("levels", "bits"), [(256, 8.0), (17, math.log2(17))])
def test_uniform_data_cost_the_bits_of_their_levels(levels, bits):
    d, width = 12, 2.0
    log_prob = torch.full((30,), -d * math.log(width), dtype=torch.float64)
    found = bits_per_dimension(log_prob, d, spacing=width / levels)
    assert found.value == pytest.approx(bits, rel=1e-12)
    assert found.unit == "bits"


def test_bits_of_continuous_data_are_nats_over_log_two():
    log_prob = torch.tensor([-3.0, -5.0])
    assert bits_per_dimension(log_prob, 2, spacing=1).value == pytest.approx(2 / math.log(2))
