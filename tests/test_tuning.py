"""`advect tune`: not worse on fresh seeds, within the budget, and a default that wins is kept."""

from __future__ import annotations

import json
import math

import pytest
import torch

from advect.batch import Batch
from advect.conditions import ClassLabel, Conditions, Vector
from advect.data import Tensors
from advect.errors import InputError
from advect.fields import Run
from advect.flow import Flow
from advect.guidance import CFG, AutoGuidance
from advect.interpolants import LinearChain
from advect.metrics import EnergyDistance
from advect.networks import MLP, MLPKernel, NetSpec
from advect.oracles import reference_mixture
from advect.sampler import Sampler
from advect.solvers import RK4, Euler, FlowMapJumps, Heun
from advect.times import TimeGrid
from advect.training import train
from advect.transport import Transport
from advect.tuning import tune

METRIC = EnergyDistance(resamples=100)


def real(n: int, seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    mixture = reference_mixture()
    return Batch(mixture.sample(n, g).float())


def two_classes(real: Batch, n: int) -> dict[str, torch.Tensor]:
    return {"label": torch.arange(n) % 2}


def mixture_flow() -> Flow:
    field = reference_mixture().velocity()
    return Flow(lambda x, t: field(x, t), shape=(2,), sampler=Sampler(Euler(), TimeGrid(50)))


@pytest.mark.parametrize("nfe", [3, 8])
def test_the_winner_is_within_the_budget_and_not_worse_on_seeds_that_nothing_was_chosen_by(nfe):
    flow = mixture_flow()
    found = tune(flow, nfe, METRIC, real(1000, 0), real(1000, 1), n=500)
    assert flow.sampler == Sampler(Euler(), TimeGrid(50)), "the flow is left as it was"
    assert all(candidate.evaluations <= nfe for candidate in found.searched)
    assert len({candidate.name for candidate in found.searched}) == len(found.searched) > 10
    third = real(1000, 2)
    winner, default = (
        METRIC(flow.sample(1000, seed=77, solver=c.sampler.solver, grid=c.sampler.grid), third.x1)
        for c in (found.winner, found.default)
    )
    assert default.high is not None
    assert winner.value <= default.high
    run = Run()
    flow.sample(10, seed=0, run=run, solver=found.winner.sampler.solver, grid=found.winner.sampler.grid)
    assert run.rows["model"] == 10 * found.winner.evaluations


def test_a_default_that_nothing_beats_is_kept():
    """Data at one point: every solver is exact, so all candidates tie."""
    flow = Flow(lambda x, t: 2.0 - x if float(t) == 1 else (2.0 - x) / (1 - t), shape=(2,))
    flow.sampler = Sampler(Euler(), TimeGrid(4))
    point = Batch(torch.full((200, 2), 2.0))
    found = tune(flow, 4, METRIC, point, point, n=100)
    assert not found.better
    assert found.winner.estimate.value <= found.default.estimate.value + 1e-9


def test_a_guided_pair_counts_twice_and_a_default_beyond_the_budget_gives_way():
    x1 = torch.randn(64, 2)
    flow = train(MLP, (x1, torch.arange(64) % 2), drop=0.2, steps=2, device="cpu")
    flow.sampler = Sampler(RK4(), TimeGrid(10), guidance=(CFG(2.0),))
    few = Batch(x1, {"label": torch.arange(64) % 2})
    found = tune(flow, 4, METRIC, few, few, n=32, cond=two_classes)
    assert {c.evaluations for c in found.searched} <= {2, 4}
    with pytest.raises(InputError, match="raise --nfe, or drop its guidance"):
        tune(flow, 1, METRIC, few, few, n=32, cond=two_classes)
    flow.sampler = Sampler()
    names = [c.name for c in tune(flow, 4, METRIC, few, few, n=32, cond=two_classes).searched]
    assert any("CFG" in name for name in names)


def test_a_flow_map_is_tuned_over_grids_alone():
    from advect.objectives import MeanFlow

    flow = train(MLP, torch.randn(64, 2), objective=MeanFlow(), steps=2, device="cpu")
    found = tune(flow, 2, METRIC, real(100, 0), real(100, 1), n=50)
    assert {type(c.sampler.solver) for c in found.searched} == {FlowMapJumps}
    assert len(found.searched) > 2


def test_a_chain_of_fixed_times_keeps_them():
    kernel = MLPKernel(NetSpec((2,)), hidden=(8, 8))
    flow = Flow(kernel, Transport(interpolant=LinearChain((0.0, 0.1, 1.0))))
    found = tune(flow, 4, METRIC, real(50, 0), real(50, 1), n=50)
    assert [c.name for c in found.searched] == ["default"]
    assert found.searched[0].evaluations == 2


def test_a_flow_that_is_told_numbers_is_tuned_on_those_of_the_data():
    vector = Vector(2)
    flow = Flow(MLP(NetSpec((2,), (vector,)), hidden=(8,)), conditions=Conditions((vector,)))
    told = [Batch(real(50, k).x1, {"vector": real(50, k + 2).x1}) for k in range(2)]
    found = tune(flow, 3, METRIC, *told, n=50, cond=lambda real, n: {"vector": real.cond["vector"][:n]})
    assert any("Bellman" in candidate.name for candidate in found.searched)


def test_a_flow_that_compares_with_a_weaker_one_is_tuned_under_it():
    label = ClassLabel(2)
    strong, weak = (Flow(MLP(NetSpec((2,), (label,)), hidden=(8,)), conditions=Conditions((label,))) for _ in "ab")
    strong.sampler = Sampler(Euler(), TimeGrid(4), guidance=(AutoGuidance(2.0),))
    found = tune(strong.compare_with(weak), 4, METRIC, real(50, 0), real(50, 1), n=50, cond=two_classes)
    assert found.searched[0].name == "default"
    assert found.searched[0].evaluations == 4, "two steps of a pair"


def test_samples_that_leave_the_finite_numbers_never_win():
    sampler = Sampler(Heun(), TimeGrid(2))
    flow = Flow(lambda x, t: -x / (1 - t), shape=(2,), sampler=sampler)  # no velocity at t=1
    found = tune(flow, 4, METRIC, real(100, 0), real(100, 1), n=100)
    assert math.isnan(found.default.estimate.value)
    assert math.isfinite(found.winner.estimate.value)
    assert found.better
    nowhere = Flow(lambda x, t: x / 0, shape=(2,), sampler=sampler)
    with pytest.raises(InputError, match="no sampler of this flow gives finite samples"):
        tune(nowhere, 1, METRIC, real(20, 0), real(20, 1), n=20)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(InputError, match="nfe is 0"):
        tune(mixture_flow(), 0, METRIC, real(10, 0), real(10, 1))


def test_the_null_branch_decides_whether_guidance_is_searched():
    flow = train(MLP, (torch.randn(64, 2), torch.arange(64) % 2), steps=2, device="cpu")
    assert flow.conditions == Conditions((ClassLabel(2),))
    few = Tensors(torch.randn(64, 2), torch.arange(64) % 2).batch("train", torch.arange(64))
    found = tune(flow, 2, METRIC, few, few, n=32, cond=two_classes)
    assert not any("CFG" in candidate.name for candidate in found.searched)


def test_through_the_command_line(tmp_path, capsys):
    from advect.cli import main

    folder, data = tmp_path / "flow", tmp_path / "data.npz"
    import numpy as np

    np.savez(data, x1=real(600, 0).x1.numpy())
    train(MLP, real(600, 0).x1, steps=20, device="cpu").save_pretrained(folder)
    before = (folder / "model.safetensors").read_bytes()
    arguments = ["tune", str(folder), "--nfe", "2", "--n", "64", "--data", "Arrays", "--data.path", str(data)]
    assert main([*arguments, "--dry-run"]) == 0
    assert not (folder / "tuning.json").exists()
    assert Flow.from_pretrained(folder).sampler == Sampler()
    assert main(arguments) == 0
    told = json.loads((folder / "tuning.json").read_text())
    kept = Flow.from_pretrained(folder).sampler
    assert (kept == Sampler()) == told["kept"]
    assert (folder / "model.safetensors").read_bytes() == before
    assert "default" in capsys.readouterr().out
    assert main(["tune", str(folder), "--nfe", "0", "--data", "Arrays", "--data.path", str(data)]) == 2
    assert "nfe is 0" in capsys.readouterr().err
