"""Recipes: stages hand on what they made, run again they go on, and what does not fit leaves no folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import advect
from advect.codecs import Standardize
from advect.data import Digits
from advect.errors import InputError
from advect.files import hash_tensors
from advect.networks import MLP
from advect.sampler import Sampler
from advect.saving import save_fitted, save_sampler
from advect.solvers import Heun
from advect.times import TimeGrid
from advect.training import Monitor, Recipe, Stage, Train, TrainSettings, Workspace, find_flow, run_recipe, validate

QUICK = TrainSettings(
    steps=6, batch_size=16, warmup=0, log_every=3, checkpoint_every=3, device="cpu", tensorboard=False
)


def recipe(**changes: Any) -> Recipe:
    return replace(Recipe(Digits(), partial(MLP, hidden=(16,)), drop={"label": 0.1}, train=QUICK), **changes)


def weights(flow: advect.Flow) -> str:
    return hash_tensors(flow.state_dict())


def test_one_stage_writes_into_the_folder(tmp_path: Path) -> None:
    flow = run_recipe(recipe(), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"checkpoints", "flow", "log.jsonl", "recipe.json"}
    config = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert config["data"]["class_path"] == "advect.data.Digits"
    assert config["conditions"]["init_args"]["drop"] == {"label": 0.1}
    assert weights(advect.Flow.from_pretrained(tmp_path / "run" / "flow")) == weights(flow)
    assert weights(run_recipe(recipe(), tmp_path / "run")) == weights(flow)  # resumed at its end


@pytest.mark.parametrize("stages", [(Train(),), (Train(), Train(steps=4))], ids=["one stage", "two stages"])
def test_what_was_found_for_a_finished_run_survives_that_it_is_asked_for_again(tmp_path: Path, stages: Any) -> None:
    """Parts and the tuned sampler stay; a damaged file is written anew."""
    asked = recipe(stages=stages)
    run_recipe(asked, tmp_path)
    folder = tmp_path / "flow"
    save_fitted(folder, "grid", TimeGrid(3))
    save_sampler(folder, Sampler(Heun(), TimeGrid(2)))
    run_recipe(asked, tmp_path)
    kept = advect.Flow.from_pretrained(folder)
    assert kept.fitted == {"grid": TimeGrid(3)}
    assert kept.sampler == Sampler(Heun(), TimeGrid(2))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"abcd")
    flow = run_recipe(asked, tmp_path)
    assert weights(advect.Flow.from_pretrained(folder)) == weights(flow)


def test_in_memory_and_in_a_folder_are_the_same(tmp_path: Path) -> None:
    assert weights(run_recipe(recipe())) == weights(run_recipe(recipe(), tmp_path / "run"))


@dataclass(frozen=True)
class Shift(Stage):
    """A stage that needs the flow of the one before, and fails where it is told to.

    Args:
        fail: Whether it fails.
    """

    fail: bool = False

    def run(self, workspace: Workspace) -> None:
        assert workspace.flow is not None
        assert workspace.folder is not None
        if self.fail:
            raise RuntimeError("stopped here")
        workspace.folder.mkdir(parents=True, exist_ok=True)
        (workspace.folder / "seen").write_text(weights(workspace.flow))


def test_stages_hand_on_and_resume(tmp_path: Path) -> None:
    stages = (Train(), Shift(), Train(steps=4))
    whole = run_recipe(recipe(stages=stages), tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["1-train", "2-shift", "3-train", "flow", "recipe.json"]
    first = advect.Flow.from_pretrained(find_flow(tmp_path / "whole" / "1-train"))
    assert (tmp_path / "whole" / "2-shift" / "seen").read_text() == weights(first)

    class Stop(Monitor):
        def start(self, name: str, first: int, steps: int) -> None:
            if name == "3-train":
                raise RuntimeError("stopped here")

    with pytest.raises(RuntimeError, match="stopped here"):
        run_recipe(recipe(stages=stages), tmp_path / "cut", monitor=Stop())
    seen: list[tuple[str, int]] = []

    class Watch(Monitor):
        def start(self, name: str, first: int, steps: int) -> None:
            seen.append((name, first))

    assert weights(run_recipe(recipe(stages=stages), tmp_path / "cut", monitor=Watch())) == weights(whole)
    assert seen == [("1-train", 6), ("3-train", 0)]
    with pytest.raises(InputError, match=r"other values of .*train.*lr"):
        run_recipe(recipe(stages=stages, train=QUICK.but(lr=0.5)), tmp_path / "whole")


def test_a_stage_starts_from_the_one_before_or_anew(tmp_path: Path) -> None:
    still = QUICK.but(lr=1e-12, ema=None, steps=1)
    kept = run_recipe(recipe(stages=(Train(), Train(settings=still))), tmp_path / "run")
    before = advect.Flow.from_pretrained(find_flow(tmp_path / "run" / "1-train"))
    anew = run_recipe(recipe(stages=(Train(), Train(settings=still, weights="new"))))
    names = [name for name in before.state_dict() if name.endswith("weight")]
    assert all(torch.allclose(kept.state_dict()[n], before.state_dict()[n], atol=1e-6) for n in names)
    assert not all(torch.allclose(anew.state_dict()[n], before.state_dict()[n], atol=1e-3) for n in names)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stages": ()}, "stages is empty"),
        ({"drop": {"colour": 0.5}}, "colour"),
        ({"others": {"teacher": "nowhere"}}, "asks for"),
        ({"start_from": "nowhere"}, "nowhere holds no saved flow"),
    ],
)
def test_what_does_not_fit_leaves_no_folder(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    for stages in ((Train(),), (Train(), Train())):
        with pytest.raises(InputError, match=sentence):
            run_recipe(recipe(**{"stages": stages, **changes}), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_validate_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    validate(recipe())
    assert not list(tmp_path.iterdir())


def test_samples_and_their_distance_are_logged(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    seen: list[tuple[int, Path]] = []

    class Watch(Monitor):
        def samples(self, step: int, path: Path) -> None:
            seen.append((step, path))

    settings = QUICK.but(sample_every=4, sample_count=9)
    run_recipe(recipe(train=settings, codec=Standardize(per_feature=False)), tmp_path / "run", monitor=Watch())
    assert seen == [(step, tmp_path / "run" / "samples" / f"step-{step:08d}.png") for step in (4, 6)]
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row.get("sample_step") for row in rows] == [None, 6]
    assert rows[1]["distance"] > 0
    assert all(path.stat().st_size > 0 for _, path in seen)


def test_find_flow_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no saved flow and no checkpoint"):
        find_flow(tmp_path)


def test_find_flow_takes_the_newest_stage_by_number(tmp_path: Path) -> None:
    for stage in ("2-train", "10-reflow/training", "other"):
        where = tmp_path / stage
        advect.train(MLP, torch.randn(32, 2), steps=2, batch_size=8, warmup=0, tensorboard=False, folder=where)
        shutil.rmtree(where / "flow")
    assert find_flow(tmp_path).is_relative_to(tmp_path / "10-reflow")
