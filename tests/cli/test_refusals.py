"""What the user gets wrong is answered with one sentence that names the key and the mend, and nothing is written."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--train.stepz", "3"], "TrainSettings has no argument 'stepz' (key train.stepz): did you mean steps?"),
        (["--tran.steps", "3"], "there is no option --tran.steps: did you mean --train.steps?"),
        (["--folded", "x"], "there is no option --folded: did you mean --folder?"),
        (["--train.steps", "x"], "train.steps is x, and should be a whole number"),
        (["--train.steps", "-4"], "steps is -4: give a whole number of at least 1"),
        (["--train.optimizer", "adamm"], "optimizer"),
        (["--network", "MLPP"], "network is MLPP, which is no class known there: did you mean MLP?"),
        (["--network.hiden", "[3]"], "MLP has no argument 'hiden' (key network.hiden): did you mean hidden?"),
        (["--network.spec", "3"], "network.spec cannot be given: the network's shape and conditions are derived"),
        (["--data", "Digit"], "data is Digit, which is no class known there: did you mean Digits?"),
        (["--data", "ImageFolder", "--data.path", "nowhere"], "nowhere is not a folder"),
        (["--drop.lable", "0.1"], "lable"),
        (["--drop.label", "1.5"], "a probability lies in [0, 1]"),
        (["--network", "UNet", "--network.multipliers", "[1,2,4,8,16]"], "needs multiples of 16: pad it"),
        (["--network.hidden", "8"], "network.hidden is 8, and should be a list, like [a, b]"),
        (["--network.hidden", "[8,-1]"], "hidden is (8, -1): give widths of at least 1"),
        (["--network.size", "XXL"], "network.size is XXL: choose from XS, S, B, L"),
        (["--network", "nosuch.Net"], "network is nosuch.Net, which cannot be imported (No module named 'nosuch')"),
        (["--train.clip", "x"], "train.clip is x, and should be a number"),
        (["--train.betas", "[2,3]"], "betas is (2.0, 3.0): both lie in [0, 1)"),
        (["--drop", "0.1"], "drop is 0.1, and should be names with values, like {a: 1}"),
        (["--objective", "os.system"], "objective is os.system, which is no Objective"),
        (["--objective", "InterpolantLoss"], "the path Linear has no latent z of its own"),
        (["--stages.1.steps", "20"], "stages is a list, whose entries have no options (stages.1.steps): change a copy"),
        (["--sampler.grid.steps", "0"], "steps is 0: this grid has at least 1 step"),
        (["--data", "ImageFolder", "--data.path", "x", "--data.resize", "y"], "choose from crop, pad, stretch"),
        (["--data", "FromCallable", "--data.target", "a:b", "--data.args", "{n: 1}"], "did you mean kwargs or target?"),
        (["stray"], "'stray' is one argument too many"),
        (["--train.device", "qpu"], "device is 'qpu', which cannot be used here"),
    ],
)
def test_a_wrong_value_is_named_and_no_folder_is_made(cli, recipe, options, sentence):
    assert sentence in cli.refusal("train", recipe, "--folder", "out", *options)
    assert os.listdir(".") == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data: Digits\nnetwork: MLP\ntrian: {steps: 3}\n", "there is no key 'trian': did you mean train"),
        (
            "data: Digits\nnetwork: MLP\ntrain: {stepz: 3}\n",
            "no argument 'stepz' (key train.stepz): did you mean steps?",
        ),
        ("data: Digits\nnetwork: {class_path: MLP, init_args: {hiden: [3]}}\n", "did you mean hidden?"),
        ("", "the recipe holds no keys"),
        ("data: [Digits\n", "the recipe is not valid YAML (line"),
        ("network: MLP\n", "data is missing: give it in your recipe or as --data"),
        ("data: os.system\nnetwork: MLP\n", "data is os.system, which is no Data: name a class of that kind"),
    ],
)
def test_a_wrong_recipe_is_named(cli, recipe, text, sentence):
    recipe.write_text(text)
    assert sentence in cli.refusal("train", recipe, "--folder", "out")
    assert os.listdir(".") == ["tiny.yaml"]


def test_data_that_do_not_fit_are_named_before_anything_is_written(cli, recipe, tmp_path):
    bad = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    bad[17, 1] = np.nan
    np.savez(tmp_path / "points.npz", x1=bad)
    sentence = cli.refusal(
        "train", recipe, "--folder", "out", "--data", "Arrays", "--data.path", "points.npz", "--drop", "{}"
    )
    assert "points.npz" in sentence
    assert "17" in sentence
    assert not os.path.exists("out")


def test_unknown_commands_recipes_flows_and_systems_name_what_is_near(cli):
    assert "there is no command 'trian': did you mean train?" in cli.refusal("trian")
    assert "there is no recipe digts: did you mean digits?" in cli.refusal("train", "digts")
    assert "there is no flow at nowhere" in cli.refusal("sample", "nowhere")
    assert "no system is called 'rectified-flo': did you mean rectified-flow" in cli.refusal(
        "reproduce", "rectified-flo"
    )


def test_another_recipe_in_the_same_folder_is_refused_with_the_keys_that_differ(cli, recipe, tiny_run):
    sentence = cli.refusal("train", recipe, "--folder", tiny_run, "--train.lr", "3e-4")
    assert "settings.lr (0.001 -> 0.0003)" in sentence
    assert "holds a run" in cli.refusal("train", recipe, "--folder", tiny_run, "--fresh")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--solver", "Eulr"], "solver is Eulr, which is no class known there: did you mean Euler"),
        (["--solver", "Heun", "--solver.order", "3"], "Heun has no argument 'order' (key solver.order)"),
        (["--cond.label", "seven"], "cond.label is 'seven', which is no class of this flow"),
        (["--cond.label", "12"], "cond.label is 12, but there are 10 classes: give a number from 0 to 9"),
        (["--cond.label", "1.5"], "cond.label is 1.5, but there are 10 classes"),
        (["--cond.label", "[1, 2]"], "give one class for all, 'each' or 'none'"),
        (["--solver", "RungeKutta"], "RungeKutta has no tableau"),
        (["--guidance", "Interval"], "guidance.rule is missing"),
        (["-o", "/dev/null/x"], "/dev/null/x cannot be used: Not a directory"),
        (["--cond.colour", "red"], "no condition is called 'colour': there are ['label']"),
        (["-n", "0"], "count is 0"),
        (["--batch_size", "0"], "batch_size 0"),
        (["--format", "tif"], "format is 'tif': choose from png, npz, npy"),
        (["--steps", "two"], "steps"),
    ],
)
def test_wrong_sampling_options_are_named(cli, tiny_run, options, sentence):
    before = sorted(os.listdir(tiny_run))
    assert sentence in cli.refusal("sample", tiny_run, *options)
    assert sorted(os.listdir(tiny_run)) == before


def test_a_damaged_or_foreign_flow_is_refused(cli, tiny_run, tmp_path):
    import shutil

    shutil.copytree(tiny_run / "flow", tmp_path / "flow")
    text = (tmp_path / "flow" / "flow.json").read_text()
    (tmp_path / "flow" / "flow.json").write_text(text.replace("advect.networks.MLP", "antigravity.Net"))
    assert "class outside advect" in cli.refusal("sample", tmp_path / "flow")
    (tmp_path / "flow" / "flow.json").write_text(text)
    weights = tmp_path / "flow" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "model.safetensors is damaged" in cli.refusal("sample", tmp_path / "flow")


def test_a_command_without_what_it_works_on_asks_for_it(cli):
    assert "flow is missing: name it after the command" in cli.refusal("sample")
    assert "data and network are missing: give them in your recipe" in cli.refusal("train")


def test_real_data_of_another_shape_than_the_samples_are_refused(cli, tiny_run, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((8, 2), np.float32))
    other = ["--data", "Arrays", "--data.path", "x.npy"]
    assert "data has samples of shape (2,) and the flow of shape (1, 8, 8)" in cli.refusal("evaluate", tiny_run, *other)
    assert "x.npy has samples of shape (2,)" in cli.refusal("evaluate", "x.npy", "--data", "Digits")
    assert "n is 2" in cli.refusal("compare", tiny_run, "--n", "2")


def test_a_warning_is_a_sentence_without_a_place_in_the_code(cli, recipe, tmp_path):
    np.savez(tmp_path / "x.npz", x1=np.zeros((40, 2), np.float32), label=np.arange(40) % 2 * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli("train", recipe, "--data", "Arrays", "--data.path", "x.npz", "--dry-run")
    assert code == 0
    assert "advect: warning: x.npz: 1 of 3 classes have no training sample (1)" in err
    assert ".py" not in err


def test_files_of_samples_need_data_to_be_measured_against(cli, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((8, 2), np.float32))
    assert "data is missing" in cli.refusal("evaluate", "x.npy")
