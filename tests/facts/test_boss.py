r"""The Bellman grid, in closed form: costs, the dynamic programme, and what it promises and does not.

The reference field (R64): x0 ~ N(0, I) in 64 dimensions, data with standard deviations s_k = 1/k, whose velocity is
linear and whose map is x1 = s x0. The 64 rows of 8 I have the second moments of x0, so that costs over them are those
of the population.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from advect import Flow, Run
from advect.errors import InputError
from advect.fields import bind
from advect.fitting import FitBellman, bellman_costs, even_path
from advect.networks import MLP, NetSpec
from advect.oracles import Gaussian
from advect.randomness import generator, randn
from advect.solvers import Euler, RectifiedSDE
from advect.times import BellmanGrid, EDMGrid, Reversed, TimeGrid, bellman_path, bellman_values

S = 1 / torch.arange(1, 65, dtype=torch.float64)
FINE = [i / 100 for i in range(101)]
ROWS = 8 * torch.eye(64, dtype=torch.float64)


def velocity(x: Tensor, t: Tensor | float) -> Tensor:
    t = torch.as_tensor(t, dtype=x.dtype)
    s = S.to(x.dtype)
    return (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) * x


def along(field, x: Tensor, times: list[float] = FINE) -> tuple[Tensor, Tensor]:
    run = Euler()(field, x, times, record=True)
    return run.states, run.velocities


@pytest.fixture(scope="module")
def costs() -> Tensor:
    return bellman_costs(velocity, ROWS)


@pytest.fixture(scope="module")
def grid(costs) -> BellmanGrid:
    return BellmanGrid.from_costs(costs, FINE, 4)


def test_the_reference_field_is_the_exact_one():
    exact = Gaussian([0.0] * 64, (S**2).diag().tolist()).velocity()
    x = randn((5, 64), generator(0), dtype=torch.float64)
    for t in (0.0, 0.3, 0.9):
        torch.testing.assert_close(exact(x, t), velocity(x, t), rtol=1e-9, atol=1e-12)


def test_fact_01_costs_are_one_step_errors_on_one_fine_trajectory(costs):
    assert costs[0, 100] == pytest.approx(1.568832, abs=1e-5)
    assert costs[0, 50] == pytest.approx(0.045498, abs=1e-5)
    assert costs[50, 100] == pytest.approx(0.378718, abs=1e-5)
    assert (costs >= 0).all()
    states, velocities = along(velocity, ROWS)
    size = states.square().sum(2).mean(1)
    assert (costs.diagonal(1) <= 1e-12 * size[:-1]).all()
    single = bellman_costs(velocity, ROWS.float())
    assert (single.diagonal(1) <= 1e-6 * size[:-1]).all()
    torch.testing.assert_close(single, costs, rtol=1e-3, atol=1e-6)
    for i, j in [(0, 2), (3, 40), (17, 18), (41, 69), (60, 99), (90, 100)]:
        error = states[i] + (FINE[j] - FINE[i]) * velocities[i] - states[j]
        assert costs[i, j] == pytest.approx(float(error.square().sum(1).mean()), rel=1e-10, abs=1e-25)


def test_fact_01_wrong_forms_have_other_costs(costs):
    states, velocities = along(velocity, ROWS)
    i, j = 0, 50
    late = states[i] + (FINE[j] - FINE[i]) * velocities[i + 1] - states[j]  # v at another time
    coarse = along(velocity, ROWS, FINE[::10])[0]  # states of a coarse run
    accumulated = coarse[5] - states[j]
    for wrong in (late, accumulated, states[i] + (FINE[j] - FINE[i]) * velocities[i] - coarse[5]):
        assert abs(float(wrong.square().sum(1).mean()) / float(costs[i, j]) - 1) > 1e-2


def test_fact_01_batches_are_summed_and_divided_by_the_count(costs):
    torch.testing.assert_close(bellman_costs(velocity, ROWS, batch_size=7), costs, rtol=1e-12, atol=1e-18)


def test_fact_01_the_mean_of_norms_that_are_not_squared_is_another_grid():
    x0 = randn((300, 64), generator(0), dtype=torch.float64)
    states, velocities = along(velocity, x0)
    t = torch.tensor(FINE, dtype=torch.float64)
    norms = torch.zeros(101, 101, dtype=torch.float64)
    for i in range(100):
        h = (t[i + 1 :] - t[i]).reshape(-1, 1, 1)
        norms[i, i + 1 :] = (states[i] + h * velocities[i] - states[i + 1 :]).norm(dim=2).mean(1)
    assert bellman_path(norms, 6)[0] != bellman_path(bellman_costs(velocity, x0), 6)[0]


@pytest.mark.parametrize(
    ("steps", "inner", "cost"),
    [
        (2, [62], 0.354628),
        (3, [49, 82], 0.145717),
        (4, [41, 69, 91], 0.07255),
        (6, [31, 53, 72, 87, 96], 0.02415),
        (8, [24, 42, 57, 71, 83, 92, 97], 0.01037),
    ],
)
def test_fact_02_nodes_of_the_reference_field(grid, steps, inner, cost):
    best = grid.with_steps(steps)
    assert best.path() == [0, *inner, 100]
    assert best.value() == pytest.approx(cost, abs=1e-5)
    assert best.cost_of(best.path()) == pytest.approx(best.value(), rel=1e-12)
    assert best.times() == [FINE[i] for i in best.path()]


def test_fact_02_equals_brute_force_and_not_greed(grid, costs):
    c = costs
    totals = {(i, j): float(c[0, i] + c[i, j] + c[j, 100]) for i, j in itertools.combinations(range(1, 100), 2)}
    ranked = sorted(totals, key=totals.__getitem__)
    assert ranked[:2] == [(49, 82), (49, 83)]
    assert totals[49, 83] == pytest.approx(0.145841, abs=1e-6)
    assert grid.with_steps(3).value() == pytest.approx(totals[49, 82], abs=1e-12)
    path = [0, 100]
    for steps, nodes, cost in [(2, [62], 0.354628), (3, [62, 88], 0.19064), (4, [37, 62, 88], 0.07746)]:
        options = [sorted([*path, node]) for node in range(1, 100) if node not in path]
        path = min(options, key=grid.cost_of)
        assert path[1:-1] == nodes
        assert grid.cost_of(path) == pytest.approx(cost, abs=1e-5)
        assert (grid.with_steps(steps).value() < grid.cost_of(path) * 0.95) == (steps > 2)


def test_fact_03_no_grid_of_as_many_steps_costs_less(grid):
    for steps, even in [(3, 0.20859), (4, 0.12902), (6, 0.06739)]:
        assert grid.cost_of(even_path(steps, 100)) == pytest.approx(even, abs=1e-5)
        best = grid.with_steps(steps).value()
        draw = torch.rand(200, 99, generator=generator(0)).topk(steps - 1).indices.add(1).sort().values
        others = [grid.cost_of([0, *inner, 100]) for inner in draw.tolist()]
        assert best <= min([even, *others])
    assert grid.with_steps(100).value() == 0
    assert grid.with_steps(100).path() == list(range(101))
    values, _ = bellman_values(grid.costs, 100)
    assert (values[1:, 0].diff() <= 0).all()  # on this field; not a theorem, as the next test shows


def test_fact_03_exactly_k_edges_not_at_most_k():
    costs = bellman_costs(lambda x, t: torch.sin(2 * torch.pi * t) + 0 * x, torch.zeros(1, 1, dtype=torch.float64))
    grid = BellmanGrid.from_costs(costs, FINE, 1)
    assert grid.value() < 1e-25
    assert grid.with_steps(2).value() == pytest.approx(3.94e-7, rel=1e-2)
    assert grid.with_steps(2).path() == [0, 99, 100]
    assert grid.with_steps(4).value() == pytest.approx(1.4e-5, rel=2e-2)
    for steps in (1, 2, 4, 7):
        assert len(set(grid.with_steps(steps).path())) == steps + 1
    # a programme of at most k edges, which keeps the edge from the last node to itself, returns the path of one
    at_most = costs.clone()
    at_most[100, 100] = 0.0
    value = at_most[:, 100]
    for _ in range(3):
        value = torch.minimum(value, (at_most + torch.where(at_most > 0, 0.0, torch.inf).triu(1) + value).min(1).values)
    assert float(value[0]) < 1e-25 < grid.with_steps(4).value()


def test_fact_04_a_straight_field_costs_nothing_anywhere():
    a = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    seen: list[float] = []

    def straight(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t))
        return (a - x) / (1 - t)

    x0 = randn((40, 3), generator(1), dtype=torch.float64)
    costs = bellman_costs(straight, x0)
    assert costs.max() <= 1e-20
    assert max(seen) == 0.99  # never t=1, where this field has no value
    torch.testing.assert_close(Euler()(straight, x0, 1), a.expand(40, 3))
    states, velocities = along(straight, x0)
    wrong = states[10] + 0.5 * velocities[11] * 1.01 - states[60]
    assert wrong.square().sum(1).mean() > 1e-6


def test_fact_05_scale_scales_the_costs_and_leaves_the_grid(costs):
    for q in (3.0, 0.01):
        scaled = bellman_costs(lambda x, t, q=q: q * velocity(x / q, t), q * ROWS)
        torch.testing.assert_close(scaled, q**2 * costs, rtol=1e-10, atol=1e-24)
        assert bellman_path(scaled, 6)[0] == bellman_path(costs, 6)[0]
    assert bellman_path(costs / 64, 6)[0] == bellman_path(costs, 6)[0]  # the mean over dimensions


def test_fact_06_calls_of_fitting_and_of_sampling(grid):
    run = Run()
    bellman_costs(bind(velocity, run), ROWS, batch_size=64, run=run)
    assert run.nfe == 100
    again = Run()
    bellman_costs(bind(velocity, again), ROWS, batch_size=32, run=again)
    assert again.nfe == 200
    for steps in (1, 4, 9):
        run = Run()
        Euler()(velocity, ROWS, grid.with_steps(steps), run)
        assert run.nfe == steps
    assert FitBellman(4)(Flow(velocity, shape=(64,))).steps == 4


def test_fact_09_with_drawn_noise_the_same_grid_and_a_smaller_error():
    for seed in range(3):
        x0 = randn((100, 64), generator(seed, "fit"), dtype=torch.float64)
        best = BellmanGrid.from_costs(bellman_costs(velocity, x0), FINE, 4)
        for node, (low, high) in zip(best.path()[1:-1], [(39, 44), (67, 72), (88, 93)], strict=True):
            assert low <= node <= high
        x0 = randn((600, 64), generator(seed, "test"), dtype=torch.float64)
        ours, even = ((Euler()(velocity, x0, g) - S * x0).norm(dim=1).mean() for g in (best, TimeGrid(4)))
        assert 0.393 <= ours <= 0.442
        assert 0.448 <= even <= 0.495
    rms = [(Euler()(velocity, ROWS, g) - S * ROWS).square().sum(1).mean().sqrt() for g in (best, TimeGrid(4))]
    assert rms[1] == pytest.approx(0.4854, abs=1e-3)
    assert rms[0] == pytest.approx(0.4454, abs=0.01)


def test_a_local_criterion_may_raise_the_error_at_the_end():
    """On a ring of eight narrow modes the grid lowers its own cost, and ends farther from the exact map."""
    from advect.oracles import GaussianMixture

    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    means = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    field = GaussianMixture([1.0] * 8, means.tolist(), [0.15**2] * 8).velocity()
    x0 = randn((100, 2), generator(0, "fit"), dtype=torch.float64)
    best = BellmanGrid.from_costs(bellman_costs(field, x0), FINE, 4)
    assert best.value() < 0.95 * best.cost_of(even_path(4, 100))
    x0 = randn((600, 2), generator(0, "test"), dtype=torch.float64)
    exact = Euler()(field, x0, 2000)
    ours, even = ((Euler()(field, x0, g) - exact).norm(dim=1).mean() for g in (best, TimeGrid(4)))
    assert ours > 1.1 * even


def test_other_fine_grids_and_refusals(grid):
    torch.manual_seed(0)
    flow = Flow(MLP(NetSpec((2,)), hidden=(8,)))
    found = FitBellman(3, EDMGrid(20), n=10)(flow)
    assert found.times()[0] == pytest.approx(1 / 81)
    assert len(found.times()) == 4
    with pytest.raises(InputError, match="1 to 100 steps"):
        grid.with_steps(101)
    with pytest.raises(InputError, match="was not fitted"):
        BellmanGrid(4).times()
    with pytest.raises(InputError, match="runs from source to data"):
        FitBellman(3, Reversed(TimeGrid(10)))(flow)
    with pytest.raises(InputError, match="square"):
        bellman_path(torch.ones(3, 4), 2)
    with pytest.raises(InputError, match="not finite"):
        bellman_path(torch.full((4, 4), torch.nan), 2)
    average = Flow(MLP(NetSpec((2,), times=2), hidden=(8,)))
    with pytest.raises(InputError, match="the network is a flow map"):
        FitBellman(3)(average)
    with pytest.raises(InputError, match="the model is a flow map"):
        bellman_costs(average.network, torch.zeros(4, 2))
    with pytest.raises(InputError, match="draws noise"):
        flow.sample(4, solver=RectifiedSDE(), grid=found)
