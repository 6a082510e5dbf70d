"""The folder of a diffusers pipeline on the command line: sampled, calibrated, restored with, and refused."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))

import tiny

from advect.adapters import from_pretrained
from advect.files import read_json
from advect.guidance import CFG
from advect.report.pictures import as_bytes, png, save_each, save_png

SIZE = ("--pipeline.height", 32, "--pipeline.width", 32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    at = tmp_path_factory.mktemp("pipeline")
    tiny.sd3(at / "texts").save_pretrained(at / "sd3")
    return at / "sd3"


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "sd3")


def test_samples(cli, folder):
    code, out, _ = cli(
        "sample", folder, "-n", 2, *SIZE, "--cond.prompt", "a red cube", "--guidance", "CFG", "--guidance.scale", 3,
        "--steps", 3, "-o", "out", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    assert "2 samples" in out
    assert "3 network calls" in out
    flow = from_pretrained(folder, height=32, width=32)
    x = flow.sample(2, prompt="a red cube", guidance=CFG(3.0), steps=3, seed=0)
    assert Path("out/000001.png").read_bytes() == png(as_bytes(x)[1])
    other = cli("sample", folder, "-n", 1, *SIZE, "--cond.prompt", "a dog", "--steps", 3, "-o", "b", "--device", "cpu")
    assert other[0] == 0
    assert Path("b/000000.png").read_bytes() != Path("out/000000.png").read_bytes()


def test_it_is_measured_also_where_samples_lie_in_it(cli, folder):
    x = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    save_each(Path("photos"), x)
    told = (*SIZE, "--cond.prompt", "a", "--steps", 2, "--device", "cpu")
    assert cli("sample", folder, "-n", 2, *told)[0] == 0
    assert (folder / "generated.png").is_file()
    data = ("--data", "ImageFolder", "--data.path", "photos", "--data.resolution", 32, "--data.labels", "false")
    code, out, _ = cli("evaluate", folder, *told, *data, "--n", 6)
    assert code == 0
    assert "energy distance" in out
    code, _, err = cli("evaluate", folder, *told, *data, "--data.test", 0.6)
    assert code == 2
    assert "and a figure is measured on at least 8 of one kind: give more data" in err


def test_the_negative_text_is_an_option(cli, folder):
    for name, more in (("a", ()), ("b", ("--pipeline.negative", "blurry"))):
        given = (*SIZE, "--cond.prompt", "a", "--guidance", "CFG", "--steps", 2, "--device", "cpu", *more)
        assert cli("sample", folder, "-n", 1, *given, "-o", name)[0] == 0
    assert Path("a/000000.png").read_bytes() != Path("b/000000.png").read_bytes()


def test_restoration_with_weights_that_were_calibrated(cli, folder):
    os.makedirs("photos")
    for i in range(2):
        save_png(Path(f"photos/{i}.png"), torch.rand(1, 3, 32, 32) * 2 - 1)
    data = ("--data", "ImageFolder", "--data.path", "photos", "--data.resolution", 32)
    code, out, err = cli(
        "calibrate", folder, *SIZE, "--fit", "FitPriorWeights", *data, "--cond.prompt", "a", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "fitted/prior-weights" in out
    code, out, err = cli(
        "restore", folder, "photos/0.png", "--degrade", *SIZE, "--cond.prompt", "a red cube", "--operator", "Box",
        "--operator.top", 8, "--operator.left", 8, "--operator.height", 12, "--operator.width", 12,
        "--method.steps", 4, "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    report = read_json("restored/restored.json")
    assert report["calls"] == {"model": 4}
    assert report["method"]["init_args"]["weights"]["class_path"] == "advect.inverse.CalibratedWeights"


def test_refusals(cli, folder, tiny_run):
    assert "pipeline.height is for the folder of a diffusers pipeline" in cli.refusal("sample", tiny_run, *SIZE)
    assert "keeps no sampler" in cli.refusal("tune", folder, "--nfe", 4)
    assert "multiples of" in cli.refusal("sample", folder, "--pipeline.height", 30)
    assert "no condition is called 'label'" in cli.refusal("sample", folder, *SIZE, "--cond.label", 3)
    assert "give a text" in cli.refusal("sample", folder, *SIZE, "--cond.prompt", "[1.0, 2.0]")
    assert "told no scale" in cli.refusal("sample", folder, *SIZE, "--pipeline.guidance", 3)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    assert "cannot be read as a StableDiffusion3Pipeline" in cli.refusal("sample", folder, *SIZE)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert "those that are a field here are StableDiffusion3Pipeline" in cli.refusal("sample", folder)
