"""Gibbs weights through the command line: what is refused before a folder is made, and the search for their scale."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

WEIGHTS = ["--transport", "Transport", "--transport.coupling", "GibbsWeights"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--transport.coupling.eps", "0.05"], "eps is 0.05, where the effective sample size is"),
        (["--transport.coupling.eps", "0.05"], "take the elbow of the tilt variance, eps=1."),
        (["--transport.coupling.eps", "-1"], "eps is -1.0: the scale of the weights is above 0"),
        (["--transport.coupling.eps", "1", "--transport.coupling.kappa", "1"], "give one of them"),
        (["--transport.coupling.cost", "cube"], "choose from norm, squared"),
        (["--transport.coupling.normalise", "softmax"], "choose from fixed, batch"),
        (["--transport.coupling.clip", "2"], "clip is 2.0: give a quantile of the weights between 0 and 1"),
        (["--transport.coupling.epsilon", "1"], "GibbsWeights has no argument 'epsilon'"),
    ],
)
def test_weights_that_would_waste_a_training_are_refused_before_it(cli, recipe, options, sentence):
    assert sentence in cli.refusal("train", recipe, "--folder", "out", *WEIGHTS, *options)
    assert os.listdir(".") == ["tiny.yaml"]


def test_a_weighted_training_logs_its_effective_sample_size_and_its_flow_has_no_score(cli, recipe):
    assert cli("train", recipe, "--folder", "out", "--quiet", *WEIGHTS, "--transport.coupling.eps", "1.5")[0] == 0
    rows = [json.loads(line) for line in Path("out/log.jsonl").read_text().splitlines()]
    assert all(0.3 < row["weight_ess"] < 1 for row in rows)
    assert "GibbsWeights ties x0 to x1, so the velocity gives no score" in cli.refusal(
        "sample", "out", "-n", "2", "--solver", "EulerMaruyama"
    )


def test_the_scale_is_found_on_data_alone(cli):
    code, out, _ = cli("calibrate", "--fit", "FitGibbsScale", "--data", "Digits", "-n", "500", "-o", "scale.json")
    assert code == 0
    assert "interaction share" in out
    assert "<- elbow" in out
    assert json.loads(Path("scale.json").read_text())["init_args"]["eps"] == pytest.approx(1.45, abs=0.4)
    assert "data is missing" in cli.refusal("calibrate", "--fit", "FitGibbsScale")
    assert "cost" in cli.refusal("calibrate", "--fit", "FitGibbsScale", "--fit.cost", "cube", "--data", "Digits")


def test_recipes_run_as_they_stand_and_the_large_one_up_to_its_data(cli, tmp_path):
    code, out, err = cli("train", "weighted-cfm", "--dry-run")
    assert code == 0, err
    assert "GibbsWeights" in out
    assert "cifar-10 is not a folder" in cli.refusal("train", "weighted-cfm-full", "--dry-run")
    numbers = np.random.default_rng(0)
    pictures = numbers.normal(scale=0.5, size=(60, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x1=pictures, label=np.arange(60) % 10)
    data = ("--data", "HorizontalFlip", "--data.data", "Arrays", "--data.data.path", "x.npz")
    code, out, err = cli("train", "weighted-cfm-full", "--dry-run", *data)
    assert code == 0, err
    assert "eps: 5.0" in out
    assert "400000 steps of 128 samples" in out


def test_the_scale_is_kept_beside_a_flow_and_is_no_way_to_sample(cli, tiny_run):
    import shutil

    shutil.copytree(tiny_run, "run")
    assert cli("calibrate", "run", "--fit", "FitGibbsScale", "-n", "300")[0] == 0
    assert os.path.isdir("run/flow/fitted/gibbs-weights")
    sentence = cli.refusal("sample", "run", "-n", "2", "--fitted", "gibbs-weights")
    assert "GibbsWeights" in sentence
