"""Facts of transition matching: chains of exact kernels in closed form, inner steps, and processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from advect.fields import Run
from advect.interpolants import IndependentChain, LinearChain
from advect.oracles import ExactKernel, FiniteData, Gaussian, GaussianKernel, reference_mixture
from advect.solvers import RK4, ChainSolver, Context, Euler
from advect.times import CustomGrid, Grid, TimeGrid

MEAN, COVARIANCE = (1.0, -0.5), ((1.0, 0.9), (0.9, 1.0))
EXPONENTIAL = CustomGrid((0.0, 0.5, 0.75, 1.0))
FIELD = Gaussian(MEAN, COVARIANCE).velocity()
JOINT, FACTORISED = GaussianKernel(MEAN, COVARIANCE), GaussianKernel(MEAN, COVARIANCE, factorised=True)
FINE = ChainSolver(RK4(), TimeGrid(16))
Step = Callable[[Tensor, float, float, int], Tensor]


def divergence(mean: Tensor, covariance: Tensor) -> float:
    """KL(N(mean, covariance) || data); infinite where a variance is zero."""
    if torch.linalg.det(covariance) < 1e-12:
        return math.inf
    target = torch.tensor(COVARIANCE, dtype=torch.float64)
    away = torch.tensor(MEAN, dtype=torch.float64) - mean
    inverse = torch.linalg.inv(target)
    value = torch.trace(inverse @ covariance) - 2 + away @ inverse @ away + target.logdet() - covariance.logdet()
    return 0.5 * value.item()


def propagated(step: Step, grid: Grid, shared: bool = False) -> float:
    """KL of a chain whose steps are affine in the state and in the inner noise, in closed form.

    The matrices of each step are read off the step itself, which is run on states and noise that are known. With
    `shared`, all steps see the same noise.
    """
    law_mean, law = torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)  # of state and noise
    times = grid.times()
    for k in range(len(times) - 1):
        x = torch.randn(40, 2, generator=torch.Generator().manual_seed(10**6), dtype=torch.float64)
        noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(k), dtype=torch.float64)  # the solver's
        out = step(x, times[k], times[k + 1], k)
        design = torch.cat([x, noise, torch.ones(40, 1, dtype=torch.float64)], 1)
        matrix = torch.linalg.lstsq(design, out).solution.T
        assert (design @ matrix.T - out).abs().max() < 1e-9
        full = torch.eye(4, dtype=torch.float64)
        full[:2] = matrix[:, :4]
        if not shared:  # fresh noise: what the state holds of the old one is part of its law
            law_mean, law = torch.block_diag(torch.eye(2), torch.zeros(2, 2)).double() @ law_mean, law.clone()
            law[:2, 2:], law[2:, :2], law[2:, 2:] = 0, 0, torch.eye(2)
        law_mean = full @ law_mean
        law_mean[:2] += matrix[:, 4]
        law = full @ law @ full.T
    return divergence(law_mean[:2], law[:2, :2])


def chain_step(kernel: object, solver: ChainSolver = FINE, path: object = LinearChain()) -> Step:
    def step(x: Tensor, r: float, t: float, k: int) -> Tensor:
        run = Run(torch.Generator().manual_seed(k))
        return solver(kernel, x, [r, t], run, context=Context(path))  # pyright: ignore

    return step


def euler_step(x: Tensor, r: float, t: float, k: int) -> Tensor:
    return Euler()(FIELD, x, [r, t])


GRIDS = [TimeGrid(n) for n in (1, 2, 4, 8)] + [EXPONENTIAL]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_fact_01_the_joint_exact_kernel_gives_the_data_on_every_grid(grid):
    assert propagated(chain_step(JOINT), grid) == pytest.approx(0.0, abs=1e-4)
    if grid.steps < 4:
        assert propagated(chain_step(ExactKernel(FIELD)), grid) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_fact_01_sampled(steps):
    g = torch.Generator().manual_seed(steps)
    x0 = torch.randn(200_000, 2, generator=g, dtype=torch.float64)
    x = ChainSolver(RK4(), TimeGrid(5))(JOINT, x0, steps, Run(g))
    assert divergence(x.mean(0), x.T.cov()) < 1e-4


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (TimeGrid(1), math.inf),
        *zip(map(TimeGrid, (2, 4, 8, 16, 32, 64)), (1.14467, 0.28084, 0.07331, 0.01923, 0.00495, 0.00126), strict=True),
        (EXPONENTIAL, 0.47986),
    ],
    ids=str,
)
def test_fact_01_flow_matching_with_as_many_euler_steps(grid, expected):
    assert propagated(euler_step, grid) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("steps", "expected"), [(1, 0.0), (2, 0.10614), (4, 0.37413), (8, 0.69599)])
def test_fact_01_one_inner_noise_for_all_steps_is_told_apart_but_not_at_one_step(steps, expected):
    assert propagated(chain_step(JOINT), TimeGrid(steps), shared=True) == pytest.approx(expected, abs=1e-4)


class DataVariance(GaussianKernel):
    """Wrong: the spread of x1 given the state, (1-t)^2 C, in place of that of the difference."""

    def moments(self, t):
        gain, spread = super().moments(t)
        return gain, (1 - torch.as_tensor(t)) ** 2 * spread


@pytest.mark.parametrize(("steps", "expected"), [(2, 0.252), (4, 0.152), (8, 0.045)])
def test_fact_01_the_variance_of_the_data_in_place_of_the_difference_is_told_apart(steps, expected):
    wrong = DataVariance(MEAN, COVARIANCE)
    solver = ChainSolver(RK4(), TimeGrid(64))
    assert propagated(chain_step(wrong, solver), TimeGrid(steps)) == pytest.approx(expected, abs=1e-3)


def test_fact_01_and_04_a_step_of_one_third_on_another_grid_is_told_apart():
    class Hard(LinearChain):
        def step(self, x, y, r, t):
            return x + y / 3

    assert propagated(chain_step(JOINT, path=Hard()), EXPONENTIAL) == pytest.approx(0.078, abs=1e-3)


COARSE = ChainSolver(RK4(), TimeGrid(6))  # many short steps
FACTORS = {1: 3.43279, 2: 0.80880, 4: 0.09673, 8: 0.02574, 16: 0.00693, 32: 0.00182, 64: 0.00047}


@pytest.mark.parametrize(("steps", "expected"), FACTORS.items())
def test_fact_02_a_factorised_kernel_loses_what_hangs_together_at_one_step_and_regains_it(steps, expected):
    found = propagated(chain_step(FACTORISED, COARSE if steps > 8 else FINE), TimeGrid(steps))
    assert found == pytest.approx(expected, abs=1e-4)
    if steps == 1:
        covariance = torch.tensor(COVARIANCE, dtype=torch.float64)
        assert found == pytest.approx(
            0.5 * (torch.trace(covariance.inverse()) - 2 + covariance.logdet()).item(), abs=1e-4
        )
    else:
        assert 0 < found < propagated(euler_step, TimeGrid(steps))


def test_fact_02_a_factorised_kernel_on_the_exponential_grid():
    assert propagated(chain_step(FACTORISED), EXPONENTIAL) == pytest.approx(0.15253, abs=1e-4)


def test_fact_02_variances_are_exact_and_the_covariance_zero_at_one_step():
    g = torch.Generator().manual_seed(0)
    x = ChainSolver(RK4(), TimeGrid(8))(
        FACTORISED, torch.randn(100_000, 2, generator=g, dtype=torch.float64), 1, Run(g)
    )
    assert (x.T.cov() - torch.eye(2)).abs().max() < 0.02


@pytest.mark.parametrize(
    ("t", "variance", "covariance"), [(0.0, 1.0, 0.9), (0.3, 1.53742, 1.33702), (0.7, 1.29017, 0.57075)]
)
def test_fact_03_moments_of_what_the_head_draws(t, variance, covariance):
    """Mean: the velocity. Covariance: (S^-1 + t^2/(1-t)^2 I)^-1 / (1-t)^2, which a deterministic head lacks."""
    g = torch.Generator().manual_seed(1)
    x = torch.tensor([[0.4, -1.2]], dtype=torch.float64).expand(100_000, 2)
    y = ChainSolver(RK4(), TimeGrid(8))(JOINT, x, [t, 1.0], Run(g)).sub(x) / (1 - t)
    assert (y.mean(0) - FIELD(x[:1], t)[0]).abs().max() < 0.02
    assert torch.allclose(FIELD(x[:1], t), JOINT.features(x[:1], torch.tensor(t)), atol=1e-12)
    inverse = torch.tensor(COVARIANCE, dtype=torch.float64).inverse()
    closed = (inverse + t**2 / (1 - t) ** 2 * torch.eye(2)).inverse() / (1 - t) ** 2
    assert closed[0, 0].item() == pytest.approx(variance, abs=1e-5)
    assert closed[0, 1].item() == pytest.approx(covariance, abs=1e-5)
    assert torch.allclose(JOINT.moments(t)[1], closed, atol=1e-12)
    assert (y.T.cov() - closed).abs().max() < 0.03
    with_mean_alone = ChainSolver(Euler(), TimeGrid(1))(JOINT, x, [t, 1.0], Run(g))
    assert with_mean_alone.T.cov().abs().max() < 1e-12


FIELDS = {
    "Gaussian": FIELD,
    "mixture": reference_mixture().velocity(),
    "points": FiniteData([[1.0, 2.0], [-1.0, 0.5], [0.3, -2.0]]).velocity(),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fact_03b_one_inner_euler_step_is_an_euler_step_of_the_velocity(name):
    field = FIELDS[name]
    g = torch.Generator().manual_seed(2)
    x0 = torch.randn(50, 2, generator=g, dtype=torch.float64)
    chain = ChainSolver(Euler(), TimeGrid(1))(ExactKernel(field), x0, EXPONENTIAL, Run(g))
    assert (chain - Euler()(field, x0, EXPONENTIAL)).abs().max() < 1e-12
    two = ChainSolver(Euler(), TimeGrid(2))(ExactKernel(field), x0, EXPONENTIAL, Run(g))
    assert (two - Euler()(field, x0, EXPONENTIAL)).abs().max() > 1e-2


@pytest.mark.parametrize("inner", [1, 3, 16])
@pytest.mark.parametrize("name", FIELDS)
def test_fact_03c_one_transition_is_flow_matching_from_the_inner_noise(name, inner):
    """Path by path, for any data; the start state drops out."""
    field = FIELDS[name]
    x0 = torch.randn(50, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    noise = torch.randn(50, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    run = Run(torch.Generator().manual_seed(4))
    chain = ChainSolver(Euler(), TimeGrid(inner))(ExactKernel(field), x0, 1, run)
    flow = Euler()(field, noise, inner)
    start = Euler()(field, x0, inner)
    if inner > 1:
        assert (chain - flow).abs().max() < 1e-12
    else:  # one step gives the mean, whatever the noise
        assert (chain - start).abs().max() < 1e-12
    assert run.calls == {"backbone": 1, "head": inner}


TOTALS = {
    2: (0.46634, 0.13330, 0.00992, 0.00065),
    4: (0.14212, 0.04947, 0.00407, 0.00027),
    8: (0.04074, 0.01539, 0.00136, 0.00009),
}


@pytest.mark.parametrize(("steps", "expected"), TOTALS.items())
def test_fact_03c_inner_steps_take_the_error_away(steps, expected):
    for inner, value in zip((2, 4, 16, 64), expected, strict=True):
        found = propagated(chain_step(JOINT, ChainSolver(Euler(), TimeGrid(inner))), TimeGrid(steps))
        assert found == pytest.approx(value, abs=1e-4)


def test_fact_03c_the_factorised_kernel_at_one_step_gets_worse_with_inner_steps():
    found = [propagated(chain_step(FACTORISED, ChainSolver(Euler(), TimeGrid(s))), TimeGrid(1)) for s in (2, 4, 16)]
    assert found == pytest.approx([0.872, 1.555, 2.811], abs=1e-3)


@pytest.mark.parametrize("times", [(0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 0.75, 1.0)])
def test_fact_04_the_update_with_the_true_difference_stays_on_the_line(times):
    g = torch.Generator().manual_seed(0)
    x0, x1 = (torch.randn(6, 3, generator=g, dtype=torch.float64) for _ in range(2))
    chain = LinearChain()
    for r, t in itertools.pairwise(times):
        x, y = chain.pair(x0, x1, r)
        assert (chain.step(x, y, r, t) - chain.sample(x0, x1, torch.tensor(t)).x).abs().max() < 1e-6
    x, y = chain.pair(x0, x1, 0.5)
    assert (x + y / 3 - chain.sample(x0, x1, torch.tensor(0.75)).x).abs().max() > 1e-2  # 1/T hard coded


def test_fact_05_processes_have_the_same_marginals_and_other_joints():
    n, times = 20_000, (0.0, 0.5, 0.75, 1.0)
    for chain, expected in ((LinearChain(times, "next"), 1.0), (IndependentChain(times), 0.0)):
        g = torch.Generator().manual_seed(0)
        x0, x1 = torch.randn(n, generator=g, dtype=torch.float64), torch.full((n,), 0.7, dtype=torch.float64)
        states = chain.states(x0, x1, times, g)
        for t, x in zip(times, states, strict=True):
            assert x.var().item() == pytest.approx((1 - t) ** 2, rel=0.05, abs=1e-12)
            assert x.mean().item() == pytest.approx(0.7 * t, abs=0.03)
        for x, following in itertools.pairwise(states[:-1]):  # the last one has no variance
            correlation = torch.corrcoef(torch.stack([x, following]))[0, 1].item()
            assert correlation == pytest.approx(expected, abs=3 / math.sqrt(n))
        assert torch.equal(states[0], x0)
        assert torch.equal(states[-1], x1)
        x, y = chain.pair(x0, x1, 0.5, 0.75, g)
        assert torch.corrcoef(torch.stack([x, y]))[0, 1].item() == pytest.approx(expected, abs=3 / math.sqrt(n))
