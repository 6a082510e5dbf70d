"""Densities along flows, encoding, bits per dimension."""

from __future__ import annotations

import math

import pytest
import torch

from advect.errors import InputError
from advect.fields import Run
from advect.interpolants import VE, VPSDE, Linear
from advect.oracles import Gaussian, reference_mixture
from advect.solvers import (
    AB2,
    DDIM,
    RK4,
    AncestralDDIM,
    Context,
    DormandPrince,
    Heun,
    ReverseNoise,
    SourceNoise,
    bits_per_dim,
    dequantise,
    encode,
    first_time,
    log_prob,
    sde_log_prob,
    start_state,
)
from advect.sources import Source
from advect.times import CustomGrid, EDMGrid, TimeGrid

MIXTURE = reference_mixture()
FIELD = MIXTURE.velocity()
DATA = MIXTURE.sample(6, torch.Generator().manual_seed(0))
TRUTH = MIXTURE.log_prob()(DATA, 1.0)


@pytest.mark.parametrize(
    ("solver", "grid"),
    [(None, 1), (DormandPrince(1e-8, 1e-8), 7), (RK4(), 60), (RK4(), TimeGrid(60, 1.0, 0.0))],
    ids=str,
)
def test_exact_log_prob(solver, grid):
    assert (log_prob(FIELD, DATA, solver=solver, grid=grid) - TRUTH).abs().max() < 1e-3


def test_breaks_of_a_grid_are_kept_on_the_way_back():
    nodes = (0.0, 0.3, 0.4, 0.6, 0.8, 1.0)
    broken = encode(FIELD, DATA, AB2(), CustomGrid(nodes, restarts=(2,)))
    halves = AB2()(FIELD, AB2()(FIELD, DATA, list(nodes[:1:-1])), list(nodes[2::-1]))
    assert torch.equal(broken, halves)
    assert not torch.equal(broken, encode(FIELD, DATA, AB2(), CustomGrid(nodes)))


def test_calls_are_counted():
    run = Run()
    log_prob(FIELD, DATA, solver=RK4(), grid=10, run=run)
    assert run.nfe == 40
    log_prob(FIELD, DATA, solver=Heun(), grid=10, run=run, divergence="hutchinson")
    assert run.nfe == 60


def test_any_shape():
    mean = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
    root = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 3
    covariance = root @ root.T + 0.2 * torch.eye(6, dtype=torch.float64)
    law = Gaussian(mean.tolist(), covariance.tolist())
    x = law.sample(4, torch.Generator().manual_seed(2))
    assert x.shape == (4, 2, 3)
    closed = torch.distributions.MultivariateNormal(mean.flatten(), covariance).log_prob(x.flatten(1))
    assert (log_prob(law.velocity(), x) - closed).abs().max() < 1e-3
    many = x[:1].expand(300, 2, 3)
    for probe in ("rademacher", "gaussian"):
        run = Run(torch.Generator().manual_seed(3))
        values = log_prob(law.velocity(), many, solver=RK4(), grid=30, divergence="hutchinson", probe=probe, run=run)
        error = values.std() / math.sqrt(300)
        assert error > 0.01
        assert abs(values.mean() - closed[0]) < 3 * error


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_gradients_reach_parameters_and_data(divergence):
    def value(rate, x):
        field = lambda y, t: torch.tanh(rate * y.flip(1)) + rate * y  # noqa: E731
        generator = torch.Generator().manual_seed(0)
        return log_prob(field, x, solver=RK4(), grid=8, divergence=divergence, generator=generator).sum()

    rate = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    x = DATA.clone().requires_grad_()
    by_rate, by_x = torch.autograd.grad(value(rate, x), (rate, x))
    step, shift = 1e-5, torch.zeros_like(x)
    shift[1, 0] = step
    with torch.no_grad():
        in_rate = (value(rate + step, x) - value(rate - step, x)) / (2 * step)
        in_x = (value(rate, x + shift) - value(rate, x - shift)) / (2 * step)
    assert by_rate.item() == pytest.approx(in_rate.item(), rel=1e-6)
    assert by_x[1, 0].item() == pytest.approx(in_x.item(), rel=1e-6)


def test_no_graph_is_kept_where_gradients_are_off():
    net = torch.nn.Linear(2, 2).double()
    with torch.no_grad():
        assert not log_prob(lambda x, t: net(x), DATA, solver=RK4(), grid=4).requires_grad


def test_encode_undoes_sampling():
    x0 = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    solver = DormandPrince(1e-9, 1e-9)
    assert (encode(FIELD, solver(FIELD, x0), solver) - x0).abs().max() < 1e-6
    assert (encode(FIELD, DDIM()(FIELD, x0, 800), DDIM(), 800) - x0).abs().max() < 1e-2


def test_paths_whose_source_is_scaled():
    """On VE the state at t=0 is 80 x0 and more; on an EDM grid it starts at t > 0 with g x0."""
    law = Gaussian([0.5], 0.49)
    x = torch.tensor([[0.2], [1.4]], dtype=torch.float64)
    closed = law.log_prob()(x, 1.0)
    for path, grid in ((VE(), 1), (Linear(), EDMGrid(40)), (VPSDE(), 1)):
        context, field = Context(path), law.velocity(path)
        assert (log_prob(field, x, grid=grid, context=context) - closed).abs().max() < 0.03
        solver = DormandPrince(1e-9, 1e-9)
        x0 = encode(field, x, solver, grid, context=context)
        assert x0.abs().max() < 3
        start = start_state(x0, first_time(grid, path), path)
        assert (solver(field, start, grid, context=context) - x).abs().max() < 1e-5


def test_refusals():
    class Nowhere(Source):
        def sample(self, shape, cond=None, generator=None, **more):
            return torch.zeros(*shape)

    with pytest.raises(InputError, match="AncestralDDIM, which draws noise"):
        log_prob(FIELD, DATA, solver=AncestralDDIM())
    with pytest.raises(InputError, match="draws noise"):
        encode(FIELD, DATA, AncestralDDIM())
    with pytest.raises(InputError, match="Nowhere has no known density"):
        log_prob(FIELD, DATA, Nowhere())
    with pytest.raises(InputError, match="divergence is 'trace'"):
        log_prob(FIELD, DATA, divergence="trace")


@pytest.mark.parametrize(
    ("level", "grid"), [(SourceNoise(1.0, 2.0), 400), (ReverseNoise(1.0), TimeGrid(400, 0.02, 1.0))], ids=str
)
def test_sde_log_prob(level, grid):
    """One-sided path: the score comes from the velocity; the mean of the logs over paths is the log-density."""
    law = Gaussian([0.5], 0.49)
    x = torch.tensor([[0.2], [1.4]], dtype=torch.float64)
    closed = torch.distributions.Normal(0.5, 0.7).log_prob(x).squeeze(1)
    rows = x.repeat(4000, 1)
    run = Run(torch.Generator().manual_seed(0))
    with torch.no_grad():
        logs = sde_log_prob(law.velocity(), rows, level, grid=grid, run=run).view(4000, 2)
    error = logs.std(0) / math.sqrt(4000)
    assert error.max() < 0.05
    assert ((logs.mean(0) - closed).abs() < 3 * error + 0.01).all()
    few = sde_log_prob(law.velocity(), x, level, grid=20, paths=3, run=Run(torch.Generator().manual_seed(0)))
    assert few.shape == (2,)


def test_bits_of_uniform_pixels():
    pixels = torch.randint(256, (50, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    z = dequantise(pixels, torch.Generator().manual_seed(1))
    assert z.min() >= -1
    assert z.max() < -1 + 256 / 127.5
    assert torch.equal(((z + 1) * 127.5).floor().long(), pixels)
    assert bits_per_dim(torch.tensor(-3.0 * math.log(2)), 3, levels_per_unit=1.0).item() == pytest.approx(1.0)
