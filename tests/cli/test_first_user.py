"""What a first user tries, right or wrong: shipped flows by class name, a folder of runs, trials that write nothing."""

from __future__ import annotations

import os
import shutil

import pytest

from advect.cli.evaluate import data_of
from advect.cli.flows import conditions_for, open_flow
from advect.data import Clothing, Emoji


@pytest.mark.parametrize(("name", "data"), [("emoji", Emoji()), ("clothing", Clothing())])
def test_a_shipped_flow_knows_its_classes_and_its_data(name, data):
    flow = open_flow(name)
    for number, group in enumerate(data.class_names):
        assert conditions_for(flow, {"label": group}, 0, 1) == {"label": number}
    own = data_of(flow, None, False)
    assert own.class_names == data.class_names
    assert own.size("train") == flow.record["trained_on"]["size"]


def test_a_folder_of_runs_is_no_run(cli, tiny_run, tmp_path):
    for run in ("first", "2026-11-20"):  # a stopped run has checkpoints alone; neither name is a stage's
        shutil.copytree(tiny_run / "checkpoints", tmp_path / "runs" / run / "checkpoints")
    assert "runs holds no saved flow and no checkpoint" in cli.refusal("sample", "runs", "-n", "2")
    assert sorted(os.listdir("runs")) == ["2026-11-20", "first"]
    assert cli("sample", "runs/first", "-n", "2", "--steps", "1")[0] == 0


def test_results_of_a_folder_that_is_not_there_are_refused(cli):
    assert "results is nowhere, which is no folder" in cli.refusal("systems", "--results", "nowhere")
