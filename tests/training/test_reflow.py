"""Pairs made by a flow, and the stages that make them and train on them."""

from __future__ import annotations

import json

import pytest
import torch

import advect
from advect.codecs import Standardize
from advect.conditions import ClassLabel, Conditions
from advect.data import Tensors, TwoDomains
from advect.distillation import KStep, OneStepEncoder, OnlineReflow
from advect.errors import InputError
from advect.guidance import CFG
from advect.metrics import energy_distance
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.solvers import Euler, Heun
from advect.times import TimeGrid
from advect.training import (
    MakePairs,
    Recipe,
    Reflow,
    Train,
    TrainSettings,
    make_pairs,
    reflow,
    reflow_online,
    run_recipe,
)

LABELS = torch.arange(40) % 4
DATA = Tensors(torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), label=LABELS)
SETTINGS = TrainSettings(steps=8, batch_size=16, checkpoint_every=4, tensorboard=False, device="cpu")


def net(spec):
    return MLP(spec, hidden=(16,))


@pytest.fixture
def flow():
    torch.manual_seed(0)
    items = (ClassLabel(4),)
    return advect.Flow(net(advect.NetSpec((3,), items)), conditions=Conditions(items, {"label": 0.5}))


def test_pairs_are_the_ends_of_the_flow_under_its_conditions_and_guidance(flow, tmp_path):
    pairs = make_pairs(flow, 50, tmp_path, solver=Heun(), steps=3, guidance=(CFG(2.0),), data=DATA, batch_size=7)
    batch = pairs.batch("train", torch.arange(50))
    assert torch.equal(batch.cond["label"], torch.cat([LABELS, LABELS])[:50])
    ends = flow.sample(50, x0=batch.x0, solver=Heun(), steps=3, guidance=CFG(2.0), label=batch.cond["label"])
    torch.testing.assert_close(batch.x1, ends)
    plain = flow.sample(50, x0=batch.x0, solver=Heun(), steps=3, label=batch.cond["label"])
    assert (plain - ends).abs().max() > 1e-4
    about = json.loads((tmp_path / "pairs.json").read_text())
    assert about["guidance"][0]["init_args"]["scale"] == 2.0
    assert about["solver"]["class_path"] == "advect.solvers.Heun"
    assert about["grid"]["init_args"]["steps"] == 3
    assert len(about["teacher"]) == 64


def test_a_pair_depends_on_seed_and_number_alone_and_seeds_give_the_same_pairs(flow, tmp_path):
    options = {"steps": 2, "data": DATA, "seed": 3}
    a = make_pairs(flow, 30, tmp_path / "a", batch_size=7, shard_size=11, **options)
    b = make_pairs(flow, 30, tmp_path / "b", store_x0=False, **options)
    index = torch.tensor([29, 4, 11, 10])
    left, right = a.batch("train", index), b.batch("train", index)
    assert torch.equal(left.x0, right.x0)
    torch.testing.assert_close(left.x1, right.x1)
    assert torch.equal(left.cond["label"], right.cond["label"])


def test_guidance_of_the_teacher_is_in_the_pairs_and_not_applied_again(flow, tmp_path):
    flow.conditions = Conditions(flow.conditions.items, {"label": 1e-9})  # keeps all labels, to compare
    flow.sampler = flow.sampler.but(guidance=(CFG(3.0),), solver=Euler(), steps=2)
    pairs = make_pairs(flow, 40, tmp_path, data=DATA)
    assert pairs.about["guidance"][0]["init_args"]["scale"] == 3.0
    assert reflow(flow, pairs, settings=SETTINGS).sampler.guidance == ()

    seen = {}

    class Keep(FlowMatching):
        def loss(self, nets, batch, generator):
            seen["batch"] = batch
            return super().loss(nets, batch, generator)

    online = OnlineReflow(Euler(), TimeGrid(2), Keep())
    student = reflow_online(flow, DATA, objective=online, settings=SETTINGS)
    assert student.sampler.guidance == ()
    batch = seen["batch"]
    ends = Euler()(flow.bind(guidance=(CFG(3.0),), **batch.cond), batch.x0, 2)
    torch.testing.assert_close(batch.x1, ends)


def test_processes_share_the_shards(flow, tmp_path):
    options = {"steps": 2, "data": DATA, "shard_size": 8}
    whole = make_pairs(flow, 30, tmp_path / "a", **options)
    make_pairs(flow, 30, tmp_path / "b", part=(1, 2), **options)
    assert len(list((tmp_path / "b").glob("shard-*.json"))) == 2
    shared = make_pairs(flow, 30, tmp_path / "b", part=(0, 2), **options)
    index = torch.arange(30)
    assert torch.equal(whole.batch("train", index).x1, shared.batch("train", index).x1)


def test_a_stopped_run_goes_on_and_another_teacher_is_refused(flow, tmp_path):
    class Stop(Exception):
        pass

    def stop(done):
        if done > 20:
            raise Stop

    options = {"steps": 2, "data": DATA, "batch_size": 5, "shard_size": 10}
    with pytest.raises(Stop):
        make_pairs(flow, 40, tmp_path / "a", on_done=stop, **options)
    assert sorted(path.name for path in (tmp_path / "a").glob("shard-*.json")) == [
        "shard-00000.json",
        "shard-00001.json",
    ]
    seen = []
    resumed = make_pairs(flow, 40, tmp_path / "a", on_done=seen.append, **options)
    assert seen == [25, 30, 35, 40]
    whole = make_pairs(flow, 40, tmp_path / "b", **options)
    index = torch.arange(40)
    assert torch.equal(resumed.batch("train", index).x1, whole.batch("train", index).x1)
    with torch.no_grad():
        next(flow.parameters()).add_(1.0)
    with pytest.raises(InputError, match="holds other pairs, which differ in teacher"):
        make_pairs(flow, 40, tmp_path / "a", **options)


def test_pairs_of_two_domains_start_from_the_data_in_the_codecs_state(tmp_path):
    start = 5 + torch.randn(40, 3)
    codec = Standardize().fit(start)
    flow = advect.Flow(net(advect.NetSpec((3,))), codec=codec)
    domains = TwoDomains(Tensors(start), Tensors(torch.randn(40, 3)), paired=True)
    batch = make_pairs(flow, 40, tmp_path, steps=2, data=domains).batch("train", torch.arange(40))
    torch.testing.assert_close(batch.x0, codec.encode(start))
    torch.testing.assert_close(codec.decode(batch.x1), flow.sample(40, x0=batch.x0, steps=2))
    with pytest.raises(InputError, match="store_x0 is False, but x0 comes from the data"):
        make_pairs(flow, 40, tmp_path / "b", steps=2, data=domains, store_x0=False)
    student = reflow(flow, advect.data.StoredPairs(str(tmp_path)), settings=SETTINGS)
    assert student.codec is codec


def test_missing_conditions_are_named(flow, tmp_path):
    with pytest.raises(InputError, match="the flow is told label, but no values are given"):
        make_pairs(flow, 4, tmp_path, steps=2)


def recipe(*stages, codec=None):
    return Recipe(DATA, net, codec=codec, train=SETTINGS, stages=stages)


def test_reflow_and_distillation_are_stages_and_resume(tmp_path):
    stages = (Train(), Reflow(MakePairs(64, Heun(), TimeGrid(4))), Reflow(MakePairs(64), KStep(2), steps=4))
    flow = run_recipe(recipe(*stages, codec=Standardize()), tmp_path)
    assert "another flow made" in flow.score_refusal
    assert isinstance(flow.codec, Standardize)
    assert flow.record["data"]["class_path"] == "advect.data.Tensors", "measured on the data, not on the pairs"
    assert flow.record["pairs"]["class_path"] == "advect.data.StoredPairs"
    run = advect.Run()
    x = flow.sample(5, seed=0, label=1, run=run)
    assert run.nfe == 2
    again = advect.Flow.from_pretrained(tmp_path / "flow")
    assert torch.equal(again.sample(5, seed=0, label=1), x)
    assert again.score_refusal == flow.score_refusal
    resumed = run_recipe(recipe(*stages, codec=Standardize()), tmp_path)
    assert torch.equal(resumed.sample(5, seed=0, label=1), x)


def test_make_pairs_hands_its_pairs_to_the_next_stage(tmp_path):
    flow = run_recipe(recipe(Train(), MakePairs(64, Euler(), TimeGrid(4)), Train()), tmp_path)
    assert flow.score_refusal is not None
    with pytest.raises(InputError, match="codec is Standardize, which the next stage would apply to pairs"):
        run_recipe(recipe(Train(), MakePairs(64), Train(), codec=Standardize()), tmp_path / "b")
    with pytest.raises(InputError, match="the stage MakePairs takes the Flow of a stage before it"):
        run_recipe(recipe(MakePairs(64), Train()), tmp_path / "c")
    with pytest.raises(InputError, match="pairs are files: give the run a folder"):
        run_recipe(recipe(Train(), Reflow()))


def test_the_distance_of_paired_data_compares_with_other_samples(flow, tmp_path):
    """Samples of their own partners' x0 are nearer to these than independent ones: that distance is below zero."""
    pairs = make_pairs(flow, 256, tmp_path / "pairs", solver=Heun(), steps=4, data=DATA)
    settings = SETTINGS.but(steps=1, lr=1e-9, warmup=0, sample_every=1, sample_count=128)
    reflow(flow, pairs, settings=settings, folder=tmp_path / "run")
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    batch = pairs.batch("train", torch.arange(256))
    own = float(energy_distance(batch.x1[:128], batch.x1[:128] + 1e-3))
    assert own < -0.02
    assert row["distance"] == pytest.approx(float(energy_distance(batch.x1[:128], batch.x1[128:])), abs=0.02)


def test_a_one_step_encoder_encodes_and_refuses_to_sample(flow, tmp_path):
    pairs = make_pairs(flow, 256, tmp_path, solver=Heun(), steps=8, data=DATA)
    settings = SETTINGS.but(steps=400, lr=3e-3, warmup=0, checkpoint_every=None)
    encoder = reflow(flow, pairs, objective=OneStepEncoder(), settings=settings)
    batch = pairs.batch("train", torch.arange(256))
    back = encoder.encode(batch.x1, solver=Euler(), grid=1, **batch.cond)
    assert (back - batch.x0).square().mean() < 0.5 * (batch.x1 - batch.x0).square().mean()
    with pytest.raises(InputError, match=r"runs from t=1 to t=0: sample goes from source to data, encode goes back"):
        encoder.sample(4, label=1)
    with pytest.raises(InputError, match="encode goes back"):
        flow.sample(4, label=1, grid=[1.0, 0.5, 0.0])
