"""Facts of rectified flow: its stochastic and curved samplers (docs/systems/rectified-flow.md)."""

from __future__ import annotations

import math

import pytest
import torch

from advect.fields import Run
from advect.interpolants import ChangedPath, Cosine, Linear
from advect.oracles import reference_mixture
from advect.solvers import DDIM, Context, Euler, EulerMaruyama, Overshooting, RectifiedSDE, SourceNoise
from advect.times import CustomGrid, TimeGrid

STDS = torch.tensor([0.5, 1.0, 2.0])
PATHS = 60_000


def velocity(x, t, std=STDS, mean=0.0):
    """The exact v of N(0, 1) -> N(mean, std^2) on the straight path; columns of x have their own std."""
    return mean + (t * std**2 - (1 - t)) / (t**2 * std**2 + (1 - t) ** 2) * (x - t * mean)


def noise(seed=0, columns=3):
    return torch.randn(PATHS, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma_var", [1.0, 3.0])
def test_fact_07_sde_keeps_the_marginals(sigma_var):
    """q = (1 - t) sigma_var is the level q^2/2 = (sigma_var^2/2) g^2."""
    solver = EulerMaruyama(SourceNoise(sigma_var**2 / 2, power=2.0))
    x = solver(velocity, noise(), TimeGrid(1000), Run(torch.Generator().manual_seed(1)))
    assert ((x.std(0) / STDS - 1).abs() < 0.01).all()


@pytest.mark.parametrize(
    ("factor", "sigma_var", "expected"),
    [
        ("released", 1.0, (0.455, 0.89, 1.70)),
        ("released", 3.0, (0.276, 0.43, 0.62)),
        ("no half", 1.0, (None, 0.82, 1.73)),
        ("no half", 3.0, (None, 0.71, 1.41)),
    ],
)
def test_fact_07_wrong_drifts_are_told_apart(factor, sigma_var, expected):
    g, n = torch.Generator().manual_seed(1), 400
    x = noise()[:20_000]
    for i in range(n):
        t, q = i / n, (1 - i / n) * sigma_var
        v = velocity(x, t)
        if factor == "released":
            drift = v + q**2 / (2 * (1 - t) ** 2) * (0.5 * t * (1 - t) * v - 0.5 * (2 - t) * x)
        else:
            drift = v + q**2 * (t * v - x) / (1 - t)
        x = x + drift / n + q * math.sqrt(1 / n) * torch.randn(x.shape, generator=g)
    for std, value in zip(x.std(0).tolist(), expected, strict=True):
        assert value is None or std == pytest.approx(value, abs=0.04)


GRIDS = [TimeGrid(8, 0.05, 0.95), CustomGrid((0.0, 0.02, 0.3, 0.35, 0.9, 1.0))]
START = torch.cartesian_prod(*[torch.linspace(-2, 2, 9, dtype=torch.float64)] * 2)


@pytest.mark.parametrize("grid", GRIDS, ids=["even", "uneven"])
def test_fact_09_curved_euler_on_the_straight_path_is_euler(grid):
    field = reference_mixture().velocity()
    assert (DDIM()(field, START, grid) - Euler()(field, START, grid)).abs().max() < 1e-12


def test_fact_09_curved_euler_on_the_cosine_path_is_not_euler():
    path, mixture = Cosine(), reference_mixture()
    changed = ChangedPath(mixture.velocity(), Linear(), path)
    for t in (0.1, 0.5, 0.9):
        assert (changed(START, t) - mixture.velocity(path)(START, t)).abs().max() < 1e-10
    curved = DDIM()(changed, START, GRIDS[0], context=Context(path))
    assert (curved - Euler()(changed, START, GRIDS[0])).abs().max() > 0.1


MU, STD = 1.2, 0.7


def shifted(x, t):
    return velocity(x, t, STD, MU)


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("solver", [Overshooting, RectifiedSDE])
def test_fact_13_stochastic_samplers_keep_the_law(solver, scale):
    x = solver(scale)(shifted, noise(columns=1), TimeGrid(400), Run(torch.Generator().manual_seed(1)))
    assert abs(x.mean() - MU) < 0.01
    assert abs(x.std() - STD) < 0.01
    if scale == 0.0:
        assert (x - Euler()(shifted, noise(columns=1), TimeGrid(400))).abs().max() < 1e-4


def test_fact_13_half_the_overshooting_noise_is_told_apart():
    x, g, n, c = noise(columns=1), torch.Generator().manual_seed(1), 400, 5.0
    for i in range(n):
        r, t = i / n, (i + 1) / n
        o = min(t + c / n * (1 - t), 1.0)
        z = torch.randn(x.shape, generator=g)
        spread = math.sqrt(max(0.0, (1 - t) ** 2 - (t / o * (1 - o)) ** 2))
        x = t / o * (x + (o - r) * shifted(x, r)) + 0.5 * spread * z
    assert x.std() == pytest.approx(0.35, abs=0.01)
