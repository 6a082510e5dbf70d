"""What a first user tries, right or wrong: shipped flows by class name, a folder of runs, trials that write nothing."""

from __future__ import annotations

import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import advect
from advect.cli.evaluate import data_of
from advect.cli.flows import ASSETS, conditions_for, open_flow
from advect.data import Clothing, Emoji
from advect.fitting import FitBellman


@pytest.mark.parametrize(("name", "data"), [("emoji", Emoji()), ("clothing", Clothing())])
def test_a_shipped_flow_knows_its_classes_and_its_data(name, data):
    flow = open_flow(name)
    for number, group in enumerate(data.class_names):
        assert conditions_for(flow, {"label": group}, 0, 1) == {"label": number}
    own = data_of(flow, None, False)
    assert own.class_names == data.class_names
    assert own.size("train") == flow.record["trained_on"]["size"]


def test_what_is_found_for_a_shipped_flow_is_kept_beside_a_copy_of_it(cli, tmp_path):
    """The files that ship stay as they are; the copy is taken up again, with what was found before."""
    before = {path: path.stat().st_mtime_ns for path in ASSETS.rglob("*")}
    fit = ("--fit", "FitBellman", "--fit.n", 2, "--fit.steps", 2, "--fit.fine.steps", 4)
    code, out, _ = cli("calibrate", "emoji", *fit)
    assert code == 0
    assert "written to runs/emoji-flow/fitted/bellman" in out
    assert "emoji stays as it ships: name runs/emoji-flow to use what was found" in out
    assert cli("calibrate", "emoji", *fit, "--name", "second")[0] == 0
    assert set(open_flow("runs/emoji-flow").fitted) == {"bellman", "second"}
    assert {path: path.stat().st_mtime_ns for path in ASSETS.rglob("*")} == before


def test_a_folder_of_runs_is_no_run(cli, tiny_run, tmp_path):
    for run in ("first", "2026-11-20"):  # a stopped run has checkpoints alone; neither name is a stage's
        shutil.copytree(tiny_run / "checkpoints", tmp_path / "runs" / run / "checkpoints")
    assert "runs holds no saved flow and no checkpoint" in cli.refusal("sample", "runs", "-n", "2")
    assert sorted(os.listdir("runs")) == ["2026-11-20", "first"]
    assert cli("sample", "runs/first", "-n", "2", "--steps", "1")[0] == 0


def test_results_of_a_folder_that_is_not_there_are_refused(cli):
    assert "results is nowhere, which is no folder" in cli.refusal("systems", "--results", "nowhere")


def test_one_true_picture_is_not_measured_against_many(cli):
    os.mkdir("pictures")
    for name in "ab":
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(f"pictures/{name}.png")
    box = ["Box", "--operator.top", "8", "--operator.left", "8", "--operator.height", "8", "--operator.width", "8"]
    options = ["--truth", "pictures/a.png", "-o", "out", "--operator", *box]
    assert "one picture, and there are 2 to restore" in cli.refusal("restore", "clothing", "pictures", *options)
    assert not os.path.exists("out")


@pytest.mark.parametrize("method", ["encode", "log_prob"])
@pytest.mark.parametrize("shape", [(2,), (2, 5), (3, 2, 1)])
def test_data_of_another_shape_are_named(method, shape):
    flow = advect.Flow(advect.networks.MLP(advect.NetSpec((2,)), hidden=(8,)))
    with pytest.raises(advect.InputError, match=r"this flow's are \(n, 2\): give samples of its shape, batch first"):
        getattr(flow, method)(torch.zeros(shape))


def test_a_fit_names_its_use_and_a_bad_name_before_it_runs(cli, tiny_run, tmp_path, monkeypatch):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    code, out, _ = cli("calibrate", run, "--fit", "FitGibbsScale", "--n", "50", "--name", "pairs")
    assert code == 0
    assert "pairs" in out
    assert "--fitted" not in out  # nothing samples with a pair weight
    monkeypatch.setattr("advect.fitting.FitGibbsScale.__call__", None)
    sentence = cli.refusal("calibrate", run, "--fit", "FitGibbsScale", "--n", "50", "--name", "../x")
    assert "name is '../x': a fitted part is called by letters" in sentence


def test_the_fit_named_in_the_help_has_the_argument_named_there(cli, capsys):
    with pytest.raises(SystemExit):
        cli("calibrate", "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert "--fit FitBellman --fit.n 200" in shown
    assert FitBellman(n=200).n == 200


def test_a_folder_that_cannot_be_written_is_refused_before_the_experiment(cli, tmp_path):
    (tmp_path / "taken").write_text("a file")
    # one line alone: a seed that had begun would have said so
    assert "taken" in cli.refusal("reproduce", "raag", "--quick", "--out", "taken/deeper")


def test_a_picture_in_colours_is_not_made_grey_silently(cli, tiny_run):
    from PIL import Image

    Image.fromarray(np.full((8, 8, 3), (200, 30, 90), np.uint8)).save("colours.png")
    sentence = cli.refusal("restore", tiny_run, "colours.png", "--operator", "Denoising")
    assert "the picture has colours, and the prior was trained on grey ones" in sentence


def test_a_weaker_flow_that_nothing_compares_with_is_said(cli, tiny_run):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli("sample", tiny_run, "--weak", tiny_run, "-n", "2", "-o", "x.npz", "--steps", "1")
    assert code == 0
    assert "warning: weak names a flow that nothing compares with" in err


def test_a_shape_in_the_place_of_the_transport_is_named():
    with pytest.raises(advect.InputError, match="a shape is given as shape="):
        advect.Flow(lambda x, t: x, (2,))  # pyright: ignore[reportArgumentType]
