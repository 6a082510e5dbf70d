"""What can be got wrong about average velocities, from the command line; and the recipes that train them."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

PAIRS = ["--objective.pairs", "SortedPairs", "--objective.pairs.boundary"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--objective", "SplitMeanFlow"], "SplitMeanFlow needs a network of the role 'teacher' (field)"),
        (["--objective", "SplitMeanFlow", *PAIRS, "0"], "boundary is 0, so no sample has r = t"),
        (["--objective", "SplitMeanFlow", *PAIRS, "2"], "boundary is 2.0: the share of samples with r = t"),
        (["--objective", "SplitMeanFlow", "--objective.velocity", "own"], "choose from data, teacher"),
        (["--objective", "SplitMeanFlow", "--objective.lamda", "1"], "SplitMeanFlow has no argument 'lamda'"),
        (["--objective", "MeanFlow", "--objective.derivative", "backwards"], "choose from jvp, differences"),
        (["--objective", "MeanFlow", "--objective.step", "0"], "step is 0.0: a difference quotient needs a step"),
        (["--objective", "MeanFlow", "--objective.pairs", "Uniform"], "objective.pairs is Uniform"),
        (["--objective", "MeanFlow", "--objective.norm.power", "-1"], "power is -1.0: it is at least 0"),
        (["--objective", "MeanFlow", "--objective.norm.eps", "0"], "eps is 0.0: it is above 0"),
        (
            ["--objective", "MeanFlow", "--objective.guidance", "TargetGuidance", "--objective.guidance.kappa", "1"],
            "kappa is 1.0: it lies in [0, 1)",
        ),
        (["--objective", "MeanFlow", "--sampler.solver", "Euler"], "solver is Euler, which integrates a field, but"),
        (["--objective", "MeanFlow", "--sampler.solver", "Heun"], "solver is Heun, which integrates a field, but"),
    ],
)
def test_a_wrong_value_is_named_and_no_folder_is_made(cli, recipe, options, sentence):
    assert sentence in cli.refusal("train", recipe, "--folder", "out", *options)
    assert os.listdir(".") == ["tiny.yaml"]


def test_too_few_samples_at_the_boundary_are_warned_of(cli, recipe):
    options = ["--objective", "SplitMeanFlow", "--objective.velocity", "data", *PAIRS, "0.25"]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli("train", recipe, "--dry-run", *options)
    assert code == 0
    assert "advect: warning: pairs.boundary is 0.25: splits alone pull towards a constant flow map" in err
    assert ".py" not in err


def test_guidance_in_the_target_needs_a_condition(cli, recipe, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32))
    recipe.write_text(recipe.read_text().replace("drop: {label: 0.1}", "").replace("Digits", "Arrays"))
    options = ["--data.path", "x.npy", "--objective", "MeanFlow", "--objective.guidance", "TargetGuidance"]
    sentence = cli.refusal("train", recipe, "--folder", "out", *options)
    assert "guidance inside the target needs a condition" in sentence
    assert not os.path.exists("out")


def test_a_flow_map_starts_from_a_trained_velocity_and_is_sampled_in_one_call(cli, recipe, tiny_run):
    options = ["--objective", "SplitMeanFlow", "--others.teacher", tiny_run, "--start_from", tiny_run]
    code, _, err = cli("train", recipe, "--folder", "out", "--quiet", *options)
    assert code == 0, err
    code, _, err = cli("sample", "out", "-n", "3", "--cond.label", "1", "--format", "npy", "-o", "few")
    assert code == 0, err
    assert "DormandPrince" in cli.refusal("sample", "out", "--solver", "DormandPrince")
    sentence = cli.refusal(
        "train",
        recipe,
        "--folder",
        "other",
        "--start_from",
        tiny_run,
        "--objective",
        "MeanFlow",
        "--network.hidden",
        "[8]",
    )
    assert "start_from is" in sentence
    assert "build the network with the same arguments" in sentence


@pytest.mark.parametrize("name", ["split-meanflow", "mean-flow"])
def test_the_recipes_are_sound(cli, name):
    code, _, err = cli("train", name, "--dry-run")
    assert code == 0, err


def test_the_full_recipe_is_sound_but_for_its_data(cli, tmp_path):
    assert "imagenet/latents.npz does not exist" in cli.refusal("train", "split-meanflow-full", "--dry-run")
    draw = np.random.default_rng(0)
    x1 = draw.normal(size=(200, 4, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "latents.npz", x1=x1, label=np.arange(200) % 3)
    small = ["--data.path", "latents.npz", "--network.size", "XXS", "--train.device", "cpu"]
    code, _, err = cli("train", "split-meanflow-full", "--dry-run", *small)
    assert code == 0, err
