"""The adaptive solver: accuracy, directions, calls, and a status when it does not get there."""

from __future__ import annotations

import math

import pytest
import torch
from torchdiffeq import odeint

from advect.fields import Run
from advect.oracles import reference_mixture
from advect.solvers import RK4, AdaptiveResult, DormandPrince, NotReached
from advect.times import TimeGrid

FIELD = reference_mixture().velocity()
START = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0)])
def test_error_follows_the_tolerance_in_both_directions(times):
    truth = RK4()(FIELD, START, TimeGrid(2000, *times))
    errors = [(DormandPrince(tol, tol)(FIELD, START, times) - truth).abs().max().item() for tol in (1e-4, 1e-6, 1e-8)]
    for error, tol in zip(errors, (1e-4, 1e-6, 1e-8), strict=True):
        assert error < 30 * tol
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8])
def test_against_torchdiffeq(tol):
    run = Run()
    ours = DormandPrince(tol, tol).solve(FIELD, START, [0.0, 1.0], run)
    calls = []
    theirs = odeint(
        lambda t, x: calls.append(1) or FIELD(x, t), START, torch.tensor([0.0, 1.0]).double(), rtol=tol, atol=tol
    )
    assert (ours.x - theirs[-1]).abs().max() < 100 * tol
    assert run.nfe <= 1.1 * len(calls) + 6
    assert run.nfe == 2 + 6 * (ours.steps + ours.rejected)


def test_grid_is_only_stops():
    one, many = Run(), Run()
    DormandPrince()(FIELD, START, [0.0, 1.0], one)
    DormandPrince()(FIELD, START, TimeGrid(50), many)
    assert one.nfe == many.nfe
    trajectory = DormandPrince(1e-9, 1e-9)(FIELD, START, TimeGrid(5), record=True)
    truth = RK4()(FIELD, START, TimeGrid(1000), record=True).states[::200]
    assert (trajectory.states - truth).abs().max() < 1e-6


def test_max_steps_gives_what_it_has():
    result = DormandPrince(1e-10, 1e-10, max_steps=4).solve(FIELD, START)
    assert isinstance(result, AdaptiveResult)
    assert (result.status, result.reached) == ("max_steps", False)
    assert result.steps + result.rejected == 4
    assert 0 < result.t < 1
    truth = RK4()(FIELD, START, TimeGrid(500, 0.0, result.t))
    assert (result.x - truth).abs().max() < 1e-7
    with pytest.raises(NotReached, match="max_steps was used up") as caught:
        DormandPrince(1e-10, 1e-10, max_steps=4)(FIELD, START)
    assert torch.equal(caught.value.result.x, result.x)


def test_a_pole_ends_with_the_state_before_it():
    """x' = x^2 from 1 blows up at t=1."""
    result = DormandPrince(1e-8, 1e-8).solve(lambda x, t: x**2, torch.ones(2, 1, dtype=torch.float64), [0.0, 2.0])
    assert result.status in ("min_step", "not_finite")
    assert result.t == pytest.approx(1.0, abs=1e-5)
    assert result.x.isfinite().all()


def test_not_finite_is_named():
    def broken(x, t):
        return torch.where(torch.as_tensor(t) < 0.5, -x, torch.nan)

    result = DormandPrince().solve(broken, START)
    assert result.status == "not_finite"
    assert result.t == pytest.approx(0.5, abs=1e-3)
    assert (result.x - START * math.exp(-result.t)).abs().max() < 1e-4
    with pytest.raises(NotReached, match=r"stopped at t=0\.[45]\d* of 1 .*no finite values"):
        DormandPrince()(broken, START)


@pytest.mark.parametrize("first_step", [1e-3, 0.2, 5.0])
def test_first_step_may_be_given(first_step):
    run = Run()
    result = DormandPrince(1e-7, 1e-7, first_step=first_step).solve(FIELD, START, run=run)
    assert result.reached
    assert run.nfe == 1 + 6 * (result.steps + result.rejected)
    assert (result.x - RK4()(FIELD, START, 1000)).abs().max() < 1e-5


def test_no_way_to_go():
    result = DormandPrince().solve(FIELD, START, [0.3, 0.3])
    assert result.reached
    assert torch.equal(result.x, START)
    stops = DormandPrince()(FIELD, START, [0.0, 0.0, 0.5, 0.5, 1.0], project=lambda x, t: x)
    assert (stops - DormandPrince()(FIELD, START)).abs().max() < 1e-3


def test_float32_and_float64_agree():
    assert (DormandPrince()(FIELD, START.float()) - DormandPrince()(FIELD, START)).abs().max() < 1e-4
