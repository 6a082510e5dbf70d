"""The Bellman grid through the command line: found, kept, sampled with, and refused where it does not belong."""

from __future__ import annotations

import json
import os
import shutil
import warnings

import pytest

FIT = ("--fit", "FitBellman", "--fit.steps", "3", "--fit.n", "8", "--fit.fine.steps", "12")

STAGES = """
stages:
  - class_path: Train
  - class_path: Straighten
    init_args:
      fit: {class_path: FitBellman, init_args: {steps: 3, n: 8, fine: {class_path: TimeGrid, init_args: {steps: 12}}}}
      n: 40
      settings: {steps: 3, batch_size: 16}
"""


@pytest.fixture(scope="module")
def calibrated(tiny_run, tmp_path_factory):
    """The tiny run with a fitted grid of three steps."""
    from advect.cli import main

    folder = tmp_path_factory.mktemp("boss") / "run"
    shutil.copytree(tiny_run, folder)
    assert main(["calibrate", str(folder), *FIT]) == 0
    return folder


def test_the_grid_is_found_kept_and_used(cli, calibrated, tiny_run):
    part = json.loads((calibrated / "flow" / "fitted" / "bellman" / "part.json").read_text())
    weights = json.loads((tiny_run / "flow" / "flow.json").read_text())["hashes"]["weights"]
    assert part["fitted_on"] == weights
    code, out, _ = cli("calibrate", calibrated, *FIT, "--name", "again")
    assert code == 0
    assert "3 Euler steps at t = 0," in out
    assert "even steps" in out
    for options in ((), ("--steps", "5")):
        code, out, _ = cli("sample", calibrated, "--fitted", "bellman", "--solver", "Euler", *options, "-n", "4")
        assert code == 0


def test_a_grid_of_other_weights_is_refused(cli, calibrated, tiny_run, tmp_path):
    recipe = tmp_path / "other.yaml"
    recipe.write_text((tiny_run / "recipe.yaml").read_text())
    assert cli("train", recipe, "--folder", "other", "--quiet", "--seed", "7")[0] == 0
    shutil.copytree(calibrated / "flow" / "fitted", tmp_path / "other" / "flow" / "fitted")
    before = sorted(os.listdir(tmp_path / "other"))
    sentence = cli.refusal("sample", "other", "--fitted", "bellman", "-n", "2")
    assert "BellmanGrid was fitted on a flow whose weights have the hash" in sentence
    assert "fit it again on this flow with advect calibrate" in sentence
    assert sorted(os.listdir(tmp_path / "other")) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--grid", "BellmanGrid"), "the Bellman grid holds no costs, because it was not fitted on a flow"),
        (("--grid", "BellmanGrid", "--grid.steps", "200"), "steps is 200: a Bellman grid has 1 to 100 steps"),
        (("--fitted", "bellman", "--steps", "13"), "steps is 13: a Bellman grid has 1 to 12 steps"),
        (("--fitted", "belman"), "fitted names 'belman', and the parts found for this flow are"),
        (("--fitted", "bellman", "--solver", "RectifiedSDE"), "found for steps without noise, and RectifiedSDE draws"),
        (("--fitted", "bellman", "--grid", "TimeGrid"), "fitted names 'bellman', which is a grid, and --grid is given"),
    ],
)
def test_wrong_uses_of_the_grid_are_named(cli, calibrated, options, sentence):
    assert sentence in cli.refusal("sample", calibrated, "-n", "2", *options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--fit.steps", "101"), "steps is 101, and the fine grid has 12"),
        (("--fit.n", "0"), "n is 0 and batch_size 100: both are at least 1"),
        (("--fit.stpes", "3"), "did you mean steps"),
    ],
)
def test_wrong_searches_are_named(cli, calibrated, options, sentence):
    assert sentence in cli.refusal("calibrate", calibrated, *FIT, "--name", "x", *options)
    assert not (calibrated / "flow" / "fitted" / "x").exists()


def test_another_solver_than_it_was_found_for_is_a_warning(cli, calibrated):
    given = ("sample", calibrated, "--fitted", "bellman", "-n", "2", "--dry-run")
    said = "warning: the grid balances the errors of Euler's steps, and the solver is Heun"
    for solver, expected in ((("--solver", "Euler"), 0), (("--solver", "Heun"), 1), ((), 1)):  # Heun is the flow's own
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            code, _, err = cli(*given, *solver)
        assert code == 0
        assert err.count(said) == expected, err


def test_other_guidance_than_it_was_fitted_under_is_a_warning(cli, calibrated):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli(
            *("sample", calibrated, "--fitted", "bellman", "--solver", "Euler", "-n", "2", "--cond.label", "3"),
            *("--guidance", "CFG", "--guidance.scale", "2"),
        )
    assert code == 0
    assert "advect: warning: the grid was fitted under the guidance none" in err


def test_the_stage_straightens_resumes_and_warns_elsewhere(cli, tiny_run, tmp_path):
    recipe = tmp_path / "boss.yaml"
    base = (tiny_run.parent / "tiny.yaml").read_text()
    recipe.write_text(base + STAGES)
    assert cli("train", recipe, "--folder", "out", "--quiet")[0] == 0
    flow = json.loads((tmp_path / "out" / "flow" / "flow.json").read_text())["flow"]
    assert flow["sampler"]["init_args"]["solver"]["class_path"] == "advect.solvers.Euler"
    nodes = flow["sampler"]["init_args"]["grid"]["init_args"]["nodes"]
    assert len(nodes) == 4
    assert flow["transport"]["init_args"]["only_grid"] == nodes
    shards = tmp_path / "out" / "2-straighten" / "segments"
    made = [path.stat().st_mtime_ns for path in sorted(shards.iterdir())]
    shutil.rmtree(tmp_path / "out" / "2-straighten" / "training")
    assert cli("train", recipe, "--folder", "out", "--quiet")[0] == 0  # segments and grid are still there
    assert made == [path.stat().st_mtime_ns for path in sorted(shards.iterdir())]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cli("sample", "out", "-n", "2", "--cond.label", "1")[0] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, _, err = cli("sample", "out", "-n", "2", "--cond.label", "1", "--grid", "TimeGrid", "--steps", "3")
    assert code == 0
    assert "advect: warning: this flow was trained for Euler on the grid" in err
    assert "has the 3 steps it was given" in cli.refusal(
        "sample", "out", "-n", "2", "--cond.label", "1", "--steps", "4"
    )


def test_the_stage_finds_its_grid_from_data_too(cli, tiny_run, tmp_path):
    recipe = tmp_path / "boss.yaml"
    base = (tiny_run.parent / "tiny.yaml").read_text()
    recipe.write_text(base + STAGES.replace("n: 8,", "n: 8, from_data: true,"))
    assert cli("train", recipe, "--folder", "out", "--quiet")[0] == 0


def test_recipes_fit(cli, tmp_path):
    from advect.cli import main

    assert main(["train", "boss", "--dry-run", "--folder", "out"]) == 0
    sentence = cli.refusal("train", "boss-full", "--folder", "out")
    assert "celeba_hq" in sentence
