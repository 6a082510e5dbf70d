"""PFGM++ through the command line: what is refused, what is warned of, and that its recipes fit."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

RECIPE = """
name: student
data: Digits
transport: {source: {class_path: StudentT, init_args: {df: 4}}}
network: {class_path: MLP, init_args: {hidden: [16]}}
objective:
  class_path: FlowMatching
  init_args: {predicts: F, times: EDMLogNormal, weight: EDMWeight}
drop: {label: 0.1}
sampler: {solver: EDMHeun, grid: {class_path: EDMGrid, init_args: {steps: 18}}}
train: {steps: 4, batch_size: 16, tensorboard: false}
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def student_run(tmp_path_factory) -> Path:
    """A run with a Student-t source, trained once."""
    from advect.cli import main

    folder = tmp_path_factory.mktemp("student")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert main(["train", str(folder / "tiny.yaml"), "--folder", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def _warned(cli, *arguments: object) -> tuple[int, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli(*arguments)
    return code, err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--transport.source.df", "0"], "the degrees of freedom of StudentT are a number above 0"),
        (["--transport.source.df", "-3"], "df is -3"),
        (["--transport.source.df", ".nan"], "the degrees of freedom of StudentT are a number above 0"),
        (["--transport.source.df", "0.05"], "leave the range of float32"),
        (["--transport.source.df", "most"], "transport.source.df is most"),
        (["--transport.source.dof", "4"], "StudentT has no argument 'dof'"),
        (["--objective.stable", "8"], "whatever its conditions (label)"),
        (["--objective.stable", "0"], "stable is 0"),
        (["--objective.predicts", "x2"], "objective.predicts"),
        (["--objective.predicts", "score"], "the source is StudentT, which is not Gaussian, so there is no score"),
        (["--transport.coupling", "MinibatchOT", "--objective.stable", "8"], "the coupling MinibatchOT ties them"),
    ],
)
def test_wrong_settings_are_named_and_no_folder_is_made(cli, recipe, options, sentence):
    assert sentence in cli.refusal("train", recipe, "--folder", "out", *options)
    assert os.listdir(".") == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("df", "sentence"),
    [
        ("1", "advect: warning: df is 1: with 2 degrees of freedom or fewer the mean radius of the source is infinite"),
        ("1.5", "the mean square of the source is infinite"),
        ("auto", "advect: warning: df is 'auto', so StudentT takes 128 degrees of freedom"),
    ],
)
def test_what_the_user_should_know_of_the_degrees_is_said(cli, recipe, df, sentence):
    code, err = _warned(cli, "train", recipe, "--folder", "out", "--quiet", "--transport.source.df", df)
    assert code == 0
    assert sentence in err
    assert ".py" not in err
    kept = json.loads(Path("out/flow/flow.json").read_text())
    assert f'"df": {128.0 if df == "auto" else float(df)}' in json.dumps(kept)
    code, err = _warned(cli, "sample", "out", "-n", "2", "-o", "x.npz")
    assert code == 0
    assert ("warning" in err) == (df != "auto")  # the flow keeps 128 itself


@pytest.mark.parametrize("solver", ["EulerMaruyama", "StochasticHeun", "AncestralDDIM", "SDEDPMpp", "RectifiedSDE"])
def test_samplers_that_need_a_score_are_refused(cli, student_run, solver):
    sentence = cli.refusal("sample", student_run, "--solver", solver, "-o", "x.npz")
    assert f"{solver} needs a score, but the source StudentT is not Gaussian" in sentence
    assert "take an ODE solver" in sentence
    assert not os.path.exists("x.npz")


def test_a_flow_with_a_student_source_samples_in_35_calls_the_same_in_any_batches(cli, student_run):
    given = ("--cond.label", "3", "-n", "20", "--seed", "4")
    assert cli("sample", student_run, *given, "-o", "a.npz")[0] == 0
    assert cli("sample", student_run, *given, "-o", "b.npz", "--batch_size", "7")[0] == 0
    assert np.allclose(np.load("a.npz")["x1"], np.load("b.npz")["x1"], atol=1e-4)  # matrix products of other sizes
    assert json.loads(Path("a.json").read_text())["calls"] == {"model": 35}
    noisy = ("--solver", "Perturbed", "--solver.alpha", "0.2")
    assert cli("sample", student_run, *given, *noisy, "-o", "c.npz")[0] == 0
    assert np.abs(np.load("a.npz")["x1"] - np.load("c.npz")["x1"]).max() > 0.01
    assert "alpha is -1" in cli.refusal("sample", student_run, "--solver", "Perturbed", "--solver.alpha", "-1")


def test_the_recipes_are_valid_as_far_as_their_data(cli, tmp_path):
    code, out, _ = cli("train", "pfgm-plus-plus", "--dry-run")
    assert code == 0
    assert "Prediction" in out
    assert "cifar-10 is not a folder" in cli.refusal("train", "pfgm-plus-plus-full", "--dry-run")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x1=rng.normal(size=(40, 3, 32, 32)).astype(np.float32), label=np.arange(40) % 10)
    data = ("--data", "HorizontalFlip", "--data.data", "Arrays", "--data.data.path", "x.npz")
    code, out, _ = cli("train", "pfgm-plus-plus-full", "--dry-run", *data)
    assert code == 0
    assert "state: (3, 32, 32)" in out
    assert "df: 2048.0" in out
