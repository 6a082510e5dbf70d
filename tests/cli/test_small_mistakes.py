"""Small mistakes: data too few to measure with, a dry run over another run, options with a value of another kind."""

from __future__ import annotations

import os
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import advect
from advect.couplings import MinibatchOT
from advect.guidance import CFG
from advect.objectives import FlowMatching
from advect.sampler import Sampler
from advect.solvers import AB2, Heun
from advect.times import TimeGrid


def test_data_too_few_to_measure_with_are_trained_on_all_the_same(cli):
    np.savez("few.npz", x1=np.eye(2))
    given = ("--data", "Arrays", "--data.path", "few.npz", "--network", "MLP", "--train.steps", "2", "--folder", "out")
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # elsewhere in these tests a warning is an error
        code, out, err = cli("train", *given)
    assert code == 0
    assert "flow: out/flow" in out
    assert "report:" not in out
    assert "advect: warning: the flow is trained, and there is no report: data has" in err
    assert cli("sample", "out", "-n", "2", "--steps", "1")[0] == 0


@pytest.mark.parametrize("stages", ["", "stages: [Train, {class_path: Train, init_args: {steps: 2}}]\n"])
def test_a_dry_run_says_whether_the_folder_would_be_continued(cli, recipe, stages):
    recipe.write_text(recipe.read_text() + stages)
    plan = ("train", recipe, "--folder", "out", "--dry-run")
    assert "  folder: out\n" in cli(*plan)[1]
    assert cli("train", recipe, "--folder", "out", "--quiet")[0] == 0
    assert "  folder: out (holds a run: it would be continued)\n" in cli(*plan)[1]
    code, out, _ = cli(*plan, "--train.lr", "0.5")
    assert code == 0
    assert "  folder: out (would be refused: out holds a run with other values of " in out
    assert "lr (0.001 -> 0.5)" in out
    assert "lr (0.001 -> 0.5)" in cli.refusal("train", recipe, "--folder", "out", "--train.lr", "0.5")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--guidance", "CFG", "--guidance.scale", "nan"), "guidance.scale is nan, and should be a number"),
        (("--guidance", "CFG", "--guidance.scale", "big"), "guidance.scale is big, and should be a number"),
        (
            ("--guidance", "Interval", "--guidance.rule", "CFG", "--guidance.rule.scale", "x"),
            "guidance.rule.scale is x, and",
        ),
        (("--guidance", "Interval"), "guidance.rule is missing: give --guidance.rule"),
        (("--source", "PrunedSource"), "prunes nothing before its axes are found: run advect calibrate FLOW --fit Fit"),
        (("--guid", "CFG"), "there is no option --guid: did you mean --guidance?"),
        (("--s", "3"), "there is no option --s: did you mean --solver or --steps or --source or --seed?"),
    ],
)
def test_the_mend_of_an_option_is_named(cli, tiny_run, options, sentence):
    assert sentence in cli.refusal("sample", tiny_run, "-n", "2", *options)
    assert "generated" not in os.listdir(tiny_run)


@pytest.fixture(scope="module")
def flow():
    return advect.Flow(advect.networks.MLP(advect.NetSpec((2,)), hidden=(8,)))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"solver": "Heun"}, r"solver is 'Heun': give a Solver, like Heun\(\)"),
        ({"solver": Heun}, r"solver is the class Heun: give a Solver, like Heun\(\)"),
        ({"source": 0}, "source is 0: give a Source, like "),
        ({"guidance": 2.0}, r"guidance is 2.0: give a Guidance, like CFG\(2.0\)"),
        ({"guidance": (CFG(2.0), "CFG")}, "guidance is 'CFG': give a Guidance"),
        ({"steps": 2.5}, "steps is 2.5: give a whole number"),
        ({"batch_size": "all"}, "n is 2 and batch_size all: both are whole numbers of at least 1"),
    ],
)
def test_a_value_of_another_kind_is_told_what_belongs_there(flow, given, sentence):
    with pytest.raises(advect.InputError, match=sentence):
        flow.sample(2, seed=0, **given)


def test_a_count_is_whole_and_an_array_no_tensor(flow):
    with pytest.raises(advect.InputError, match=r"n is 2.5 and batch_size 512: both are whole numbers"):
        flow.sample(2.5)
    assert flow.sample(np.int64(2), steps=np.int64(1)).shape == (2, 2)
    for method in (flow.encode, flow.log_prob):
        with pytest.raises(advect.InputError, match=r"x is a ndarray: give a tensor, torch.as_tensor\(x\)"):
            method(np.zeros((3, 2)))


def test_the_folder_of_a_run_names_its_flow(tiny_run, tmp_path):
    with pytest.raises(advect.InputError, match=r"flow.json does not exist: the flow of this run is .*run/flow$"):
        advect.Flow.from_pretrained(tiny_run)
    with pytest.raises(advect.InputError, match=r"flow.json does not exist: give the folder of a saved flow"):
        advect.Flow.from_pretrained(tmp_path / "nowhere")


def test_a_class_below_zero_is_named():
    with pytest.raises(advect.InputError, match=r"the label of row 0 is -1, but classes are numbered from 0: number"):
        advect.train(advect.networks.MLP, (torch.zeros(4, 2), -torch.ones(4).long()), steps=1)


def test_a_sampler_that_was_put_in_a_straightened_flow_is_no_mistake(flow):
    """`advect tune` measures it; the same solver and grid named at a call are warned of."""
    only = flow.but(transport=advect.Transport(only_grid=(0.0, 0.3, 1.0)), sampler=Sampler(AB2(), TimeGrid(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = only.sample(2, seed=0)
    other = only.but(sampler=Sampler(Heun(), TimeGrid(3)))
    for named in ({"solver": AB2()}, {"solver": AB2(), "grid": TimeGrid(3)}, {"solver": AB2(), "grid": 3}):
        with pytest.warns(UserWarning, match="trained for Euler on the grid 0, 0.3, 1 alone"):
            torch.testing.assert_close(other.sample(2, seed=0, **named), x, rtol=0, atol=0)
    with pytest.warns(UserWarning, match="trained for Euler on the grid 0, 0.3, 1 alone"):
        only.sample(2, seed=0, steps=4)


def test_pictures_of_16_bits_and_masks_of_grades_are_refused(cli):
    Image.fromarray(np.full((32, 32), 1000, np.uint16)).save("deep.png")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save("a.png")
    np.save("grades.npy", np.linspace(0, 1, 1024).reshape(32, 32))
    np.save("whole.npy", np.eye(32, dtype=np.uint8) * 255)
    quick = ("--method.steps", "1", "--cond.label", "0", "-o", "out")
    said = cli.refusal("restore", "emoji", "deep.png", "--mask", "whole.npy", *quick)
    assert "deep.png has pixels of mode I;16, not 8 bits a channel" in said
    said = cli.refusal("restore", "emoji", "a.png", "--mask", "grades.npy", *quick)
    assert "the mask grades.npy holds numbers that are no yes or no: save booleans" in said
    assert cli("restore", "emoji", "a.png", "--mask", "whole.npy", *quick)[0] == 0


def test_the_recipes_that_ship_are_named_in_the_help_and_a_folder_is_no_recipe(cli, capsys):
    with pytest.raises(SystemExit):
        cli("train", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "Recipes that ship: boss-full, boss, clothing, digits, emoji," in said
    os.mkdir("photos")
    assert "with pictures in it, say advect train images --data.path photos" in cli.refusal("train", "photos")


def test_a_wholly_different_run_is_refused_in_one_readable_sentence(cli, tiny_run):
    said = cli.refusal("train", "clothing", "--folder", tiny_run)
    assert "holds a run with other values of" in said
    assert said.count("->") == 8
    assert re.search(r" and \d+ more: give the old ones to resume, or another folder", said)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"objective": "MeanFlow"}, r"objective is 'MeanFlow': give an Objective, like FlowMatching\(\)"),
        ({"objective": FlowMatching}, r"objective is the class FlowMatching: give an Objective"),
        ({"transport": MinibatchOT()}, r"transport is MinibatchOT\(.*: give a Transport, like Transport\(coupling="),
        ({"codec": "Standardize"}, r"codec is 'Standardize': give a Codec, like Standardize\(\)"),
        ({"sampler": Heun()}, r"sampler is Heun\(\): give a Sampler, like Sampler\(Heun\(\), "),
        ({"settings": {"steps": 3}}, r"settings is \{'steps': 3\}: give a TrainSettings, like TrainSettings\(steps"),
    ],
)
def test_a_part_of_a_training_is_told_what_belongs_there(given, sentence):
    with pytest.raises(advect.InputError, match=sentence):
        advect.train(advect.networks.MLP, torch.zeros(20, 2), **given)
