"""Numbers of network calls are met exactly, and figures reach the page with interval, N and floor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advect import Flow, InputError, Run, Sampler
from advect.batch import Batch
from advect.metrics import EnergyDistance
from advect.report import (
    Page,
    add,
    cloud_plot,
    measure,
    measure_calls,
    nearest_items,
    quality_items,
    training_items,
    trajectory_items,
    with_calls,
)
from advect.solvers import AB2, RK4, DormandPrince, DPMpp2M, Euler, Heun, UniPC
from advect.times import CustomGrid, LogSNRGrid, TimeGrid

pytest.importorskip("matplotlib")
pytest.importorskip("PIL.Image")


def shrink(x: Tensor, t: Tensor) -> Tensor:
    """From N(0, 1) to N(0, 1/4) on the straight path, in closed form."""
    return (0.25 * t - (1 - t)) / (0.25 * t**2 + (1 - t) ** 2) * x


@pytest.mark.parametrize("solver", [Euler(), Heun(), RK4(), AB2(), DPMpp2M(), UniPC(), DormandPrince()])
@pytest.mark.parametrize("grid", [TimeGrid(9), LogSNRGrid(9), CustomGrid((0.0, 0.3, 1.0))])
@pytest.mark.parametrize("calls", [1, 2, 3, 4, 8, 32])
def test_exactly_so_many_calls_are_made(solver, grid, calls):
    flow, run = Flow(shrink, shape=(2,), sampler=Sampler(solver, grid)), Run()
    chosen = with_calls(flow, calls)
    flow.sample(3, seed=0, run=run, solver=chosen.solver, grid=chosen.grid)
    assert run.nfe == calls
    if isinstance(solver, Heun) and isinstance(grid, TimeGrid):  # one step of Heun's rule is worse than two of Euler's
        assert isinstance(chosen.solver, Heun if calls in (4, 8, 32) else Euler)


def test_no_calls_are_refused():
    with pytest.raises(InputError, match="calls is 0"):
        with_calls(Flow(shrink, shape=(2,)), 0)


def test_more_calls_measure_better_and_the_exact_field_reaches_the_floor():
    real = Batch(0.5 * torch.randn(1500, 2, generator=torch.Generator().manual_seed(1)))
    flow = Flow(shrink, shape=(2,), sampler=Sampler(Euler(), TimeGrid(4)))
    found = measure_calls(flow, (1, 4, 32), [EnergyDistance()], real, n=1500)
    values = [q.estimates["energy distance"] for q in found]
    assert values[0].value > values[1].value > values[2].high
    assert values[2].low < 0.005
    assert [q.calls for q in found] == [1, 4, 32]
    assert found[0].as_dict()["metrics"][0]["n"] == 1500
    assert all(q.seconds > 0 for q in found)


def test_the_sections_of_a_run_are_filled(tmp_path):
    flow = Flow(shrink, shape=(1, 4, 4))
    real = Batch(0.5 * torch.randn(64, 1, 4, 4))
    found = [measure(flow, [EnergyDistance()], real, n=40)]
    rows = [{"step": s, "loss": 1 / s, "loss_per_bin": [1.0, None]} for s in (1, 2)]
    page = Page("run")
    add(page, "Training", training_items(rows))
    add(page, "Quality", quality_items({"a": found, "b": found}))
    add(page, "Paths", trajectory_items(flow, real.x1, n=5, steps=3))
    add(page, "Near", nearest_items(found[0].samples, real.x1))
    add(page, "Nothing", [])
    text = page.html()
    for expected in ("50 network calls", "real against real", "energy distance", "N = 40", "nearest to it in pixels"):
        assert expected in text
    assert "Nothing" not in text
    assert training_items([]) == ['<p class="note">no log was kept</p>']


def test_points_in_the_plane_are_drawn_side_by_side_on_the_same_axes(monkeypatch):
    """All samples of one flow in one figure, not forty of each number of calls on axes of its own."""
    drawn = []
    monkeypatch.setattr("advect.report.sections.cloud_plot", lambda clouds: drawn.append(clouds) or cloud_plot(clouds))
    real = Batch(0.5 * torch.randn(64, 2))
    found = measure_calls(Flow(shrink, shape=(2,)), [2, 4], [EnergyDistance()], real, n=60)
    quality_items({"a": found})
    assert [{name: len(cloud) for name, cloud in clouds.items()} for clouds in drawn] == [
        {"2 network calls": 60, "4 network calls": 60}
    ]
