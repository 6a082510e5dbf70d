"""Every command does what its help says, on a tiny run."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import advect
from advect.parts import Part


def test_help_and_version_are_at_hand(cli):
    assert cli("--version")[1] == f"advect {advect.__version__}\n"
    for argument in ([], ["--help"]):
        code, out, _ = cli(*argument)
        assert code == 0
        for command in ("train", "sample", "evaluate", "compare", "systems", "reproduce"):
            assert f"\n  {command} " in out


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "compare", "systems", "reproduce"])
def test_help_explains_every_option(cli, command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli(command, "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out

    module = importlib.import_module(f"advect.cli.{command}")
    if hasattr(module, "make_parser"):
        for action in module.make_parser()._actions:
            if action.option_strings and action.help not in ("==SUPPRESS==",):
                assert action.help, f"{action.option_strings} of {command} is not explained"
    assert "usage: advect" in text


def test_parts_hold_nothing_but_their_fields():
    """A part that stands as a default is turned into its arguments by reading its attributes."""
    import advect.cli.train  # noqa: F401 (brings all members of all seats)

    def members(cls):
        return [found for sub in cls.__subclasses__() for found in (sub, *members(sub))]

    for cls in members(Part):
        if not dataclasses.is_dataclass(cls) or not cls.__module__.startswith("advect."):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some parts say what they take by default
            try:
                part = cls()
            except TypeError:
                continue
        fields = {field.name for field in dataclasses.fields(cls) if field.init}
        assert set(vars(part)) <= fields, cls


# train


def test_a_dry_run_says_all_and_writes_nothing(cli, recipe):
    code, out, _ = cli("train", recipe, "--dry-run", "--train.steps", "7", "--folder", "out")
    assert code == 0
    for expected in (
        "steps: 7",
        "Digits: 1259 train",
        "model: MLP",
        "parameters",
        "7 steps of 16",
        "nothing was written",
    ):
        assert expected in out
    assert os.listdir(".") == ["tiny.yaml"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "reflow",
            ["1-train: 6000 steps of 256 samples", "2-reflow: 12000 pairs, then 6000 steps of 256 samples"],
        ),
        ("split-meanflow", ["1-train: 77 steps of", "2-train: 3000 steps of"]),
        (
            "boss",
            ["1-train: 77 steps of", "2-straighten: a grid of 6 steps from 100 trajectories, segments of 5000"],
        ),
        ("boss", ["then 3000 steps of 128 samples"]),
    ],
)
def test_a_dry_run_says_of_every_stage_how_long_it_is(cli, name, lines):
    steps = () if name == "reflow" else ("--train.steps", 77)
    code, out, _ = cli("train", name, "--dry-run", *steps)
    assert code == 0
    work = out.partition("\nwork:")[2]
    for line in lines:
        assert line in work


def test_a_dry_run_names_the_networks_of_all_roles(cli, recipe):
    code, out, _ = cli(
        *("train", recipe, "--dry-run", "--objective", "VelocityAndScore"),
        *("--transport.interpolant", "StochasticInterpolant", "--others", '{"score": "MLP"}'),
    )
    assert code == 0
    assert "  score: " in out


def test_a_run_folder_holds_recipe_logs_samples_checkpoints_flow_and_report(cli, recipe):
    code, out, err = cli("train", recipe, "--folder", "out")
    assert code == 0
    assert "report: out/report.html" in out
    assert "train 4/4" in err
    for name in ("recipe.json", "recipe.yaml", "log.jsonl", "flow/flow.json", "report.html", "samples", "checkpoints"):
        assert os.path.exists(f"out/{name}")
    page = Path("out/report.html").read_text()
    for expected in ("Training", "32 network calls", "energy distance", "Trajectories", "resolved recipe", "torch"):
        assert expected in page


def test_the_report_shows_the_training_of_every_stage_and_no_samples_of_another_command(cli, recipe):
    stages = "[Train, {class_path: Reflow, init_args: {pairs: {class_path: MakePairs, init_args: {n: 40}}, steps: 3}}]"
    assert cli("train", recipe, "--folder", "out", "--stages", stages)[0] == 0
    page = Path("out/report.html").read_text()
    assert "Training: 1-train" in page
    assert "Training: 2-reflow" in page
    assert cli("sample", "out", "-n", "3")[0] == 0
    assert sorted(os.listdir("out/generated")) == ["000000.png", "000001.png", "000002.png", "samples.json"]
    assert os.path.exists("out/generated.png")


def test_the_resolved_recipe_is_the_same_run(cli, recipe):
    assert cli("train", recipe, "--folder", "a", "--quiet", "--train.steps", "3")[0] == 0
    assert cli("train", "a/recipe.yaml", "--folder", "b", "--quiet")[0] == 0
    assert Path("a/recipe.json").read_text() == Path("b/recipe.json").read_text()
    assert Path("a/flow/model.safetensors").read_bytes() == Path("b/flow/model.safetensors").read_bytes()
    assert cli("train", "a/recipe.yaml", "--folder", "a", "--quiet")[0] == 0  # done already: resumes at its end


@pytest.mark.parametrize("name", ["digits", "emoji", "clothing", "reflow"])
def test_built_in_recipes_can_be_run_as_they_stand(cli, name):
    code, out, _ = cli("train", name, "--dry-run")
    assert code == 0
    assert f"name: {name}" in out


def test_recipes_for_ones_own_data_take_a_path(cli, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.png")
    code, out, _ = cli("train", "images", "--data.path", "photos", "--dry-run")
    assert code == 0
    assert "classes: cat, dog" in out
    np.save(tmp_path / "points.npy", rng.normal(size=(100, 2)).astype(np.float32))
    code, out, _ = cli("train", "two-dimensions", "--data.path", "points.npy", "--dry-run")
    assert code == 0
    assert "each [2]" in out


# sample


def test_samples_become_pictures_arrays_and_a_sheet(cli, tiny_run):
    from PIL import Image

    assert cli("sample", tiny_run, "-n", "5", "--steps", "2", "-o", "pictures")[0] == 0
    names = sorted(name for name in os.listdir("pictures") if name.endswith(".png"))
    assert names == [f"{i:06d}.png" for i in range(5)]
    assert Image.open("pictures/000000.png").size == (8, 8)
    assert os.path.exists("pictures.png")
    assert cli("sample", tiny_run, "-n", "4", "--steps", "1", "-o", "pictures")[0] == 0
    assert not os.path.exists("pictures/000004.png")  # of the call before
    assert cli("evaluate", "pictures", "--data", "Digits", "-n", "20")[0] == 0
    assert cli("sample", tiny_run, "-n", "5", "--steps", "2", "-o", "x.npz", "--cond.label", "each")[0] == 0
    assert np.load("x.npz")["label"].tolist() == [0, 1, 2, 3, 4]
    assert json.loads(Path("x.json").read_text())["calls"] == {"model": 4}
    assert cli("sample", tiny_run, "-n", "5", "--steps", "2", "-o", "y.npy", "--cond.label", "3")[0] == 0
    flow = advect.Flow.from_pretrained(tiny_run / "flow")
    expected = flow.sample(5, seed=0, steps=2, label=3)
    torch.testing.assert_close(torch.from_numpy(np.load("y.npy")), expected, atol=1e-5, rtol=0)


def test_solver_grid_and_guidance_are_options(cli, tiny_run):
    options = [
        "--solver",
        "DPMpp2M",
        "--grid",
        "LogSNRGrid",
        "--steps",
        "3",
        "--guidance",
        "CFG",
        "--guidance.scale",
        "2",
    ]
    assert cli("sample", tiny_run, "-n", "4", "-o", "x.npy", "--cond.label", "2", *options)[0] == 0
    flow = advect.Flow.from_pretrained(tiny_run / "flow")
    from advect.guidance import CFG
    from advect.solvers import DPMpp2M
    from advect.times import LogSNRGrid

    expected = flow.sample(4, seed=0, label=2, solver=DPMpp2M(), grid=LogSNRGrid(3), guidance=CFG(2.0))
    torch.testing.assert_close(torch.from_numpy(np.load("x.npy")), expected, atol=1e-5, rtol=0)
    code, out, _ = cli("sample", tiny_run, "--dry-run", *options)
    assert code == 0
    assert "DPMpp2M" in out


def test_two_processes_and_one_give_the_same_samples(tiny_run, tmp_path):
    pytest.importorskip("accelerate")
    command = ["-m", "advect", "sample", str(tiny_run), "-n", "70", "--batch-size", "16", "--steps", "2"]
    command += ["--solver", "EulerMaruyama"]
    found = {}
    for count in (1, 2):
        out = tmp_path / f"{count}.npz"
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
        launch += ["--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch = launch if count > 1 else []
        done = subprocess.run(
            [sys.executable, *launch, *command, "-o", str(out)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        found[count] = np.load(out)["x1"]
    assert found[1].shape == (70, 1, 8, 8)
    assert len(np.unique(found[2], axis=0)) == 70
    np.testing.assert_allclose(found[1], found[2], atol=1e-5)
    assert sorted(os.listdir(tmp_path)) == ["1.json", "1.npz", "2.json", "2.npz"]  # no parts are left


# evaluate, compare, systems


def test_figures_come_with_interval_n_and_floor(cli, tiny_run):
    code, out, _ = cli("evaluate", tiny_run, "--n", "60", "--steps", "2", "-o", "e.json")
    assert code == 0
    assert "energy distance" in out
    assert "real against real" in out
    result = json.loads(Path("e.json").read_text())
    assert [m["name"] for m in result["metrics"]] == ["energy distance", "FD[digits-cnn]", "class accuracy[digits-cnn]"]
    for metric in result["metrics"]:
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["n"] == 60
        assert metric["floor"] is not None
    assert result["calls"] == 4


def test_metrics_and_data_are_options_and_files_of_samples_will_do(cli, tiny_run):
    assert cli("sample", tiny_run, "-n", "40", "--steps", "1", "-o", "x.npz", "--cond.label", "each")[0] == 0
    code, _, _ = cli("evaluate", "x.npz", "--data", "Digits", "--metrics+", "SlicedW2", "--n", "40")
    assert code == 0
    result = json.loads(Path("x.evaluation.json").read_text())
    assert len(result["metrics"]) == 1
    assert "W2" in result["metrics"][0]["name"]


def test_a_comparison_is_one_page_of_all_flows(cli, tiny_run):
    checkpoint = next((tiny_run / "checkpoints").iterdir())
    code, _, _ = cli("compare", tiny_run, checkpoint, "--calls", "[1,4]", "--n", "40", "-o", "c.html")
    assert code == 0
    result = json.loads(Path("c.json").read_text())
    assert [q["calls"] for q in result[str(tiny_run)]] == [1, 4]
    same = [[m["value"] for m in q["metrics"]] for path in result for q in result[path]]
    assert same[:2] == same[2:]  # the newest checkpoint is the flow, and the noise is the same
    assert "network calls" in Path("c.html").read_text()


def test_systems_are_listed_in_words_and_in_json(cli):
    code, out, _ = cli("systems")
    assert code == 0
    for slug in ("principles", "rectified-flow", "stochastic-interpolants"):
        assert slug in out
    listed = json.loads(cli("systems", "--json")[1])
    assert {"slug", "title", "paper", "seats", "claims"} <= set(listed[0])
    assert "rectified-flow" in cli("systems", "rectified-flow")[1]


def test_systems_show_what_ships_and_it_is_what_is_committed(cli):
    committed = Path(__file__).parents[2] / "reproductions"
    listed = {system["slug"]: system["claims"] for system in json.loads(cli("systems", "--json")[1])}
    for slug, claims in listed.items():
        assert claims == json.loads((committed / slug / "cpu.json").read_text())["claims"]
        assert all(claim["seeds"] >= 3 for claim in claims)
        printed = cli("systems", slug)[1]
        assert printed.count("DOES NOT HOLD") == sum(claim["holds"] is False for claim in claims)
