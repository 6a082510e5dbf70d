"""`advect restore` on a tiny prior: files, folders, draws, their spread, figures, larger pictures; what it refuses."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import advect
from advect.data import Digits
from advect.files import read_json
from advect.inverse import CalibratedWeights
from advect.inverse.operators import AverageDown
from advect.report.pictures import save_each, save_png
from advect.saving import save_fitted
from advect.training import find_flow

BOX = ("--operator", "Box", "--operator.top", 2, "--operator.left", 2, "--operator.height", 3, "--operator.width", 4)
FEW = ("--method.steps", 3, "--device", "cpu")


@pytest.fixture
def pictures(tmp_path) -> str:
    """Two digits and one picture of twice their size, in folders of their own."""
    x = Digits().batch("test", torch.arange(2)).x1
    save_each(tmp_path / "digits", x)
    save_png(tmp_path / "large.png", torch.cat([torch.cat([x[0], x[1]], 2)] * 2, 1)[None])
    save_png(tmp_path / "small.png", x[:1, :, :6])
    return "digits"


def test_clean_pictures_are_degraded_restored_and_measured(cli, tiny_run, pictures):
    code, out, _ = cli("restore", tiny_run, pictures, "--degrade", *BOX, *FEW, "--samples", 3, "--cond.label", 1)
    assert code == 0
    names = {f"00000{i}-{kind}.png" for i in range(2) for kind in (0, 1, 2, "measured", "spread")}
    assert set(os.listdir("restored")) == names | {"restored.json", "sheet.png"}
    report = read_json("restored/restored.json")
    assert report["calls"] == {"model": 3}
    assert report["operator"]["class_path"] == "advect.inverse.operators.Box"
    row = report["pictures"][0]
    assert {"name", "residual over noise", "PSNR", "PSNR of the mean", "spread", "width"} <= row.keys()
    assert row["PSNR of the mean"] > row["PSNR"]
    assert "SSIM" not in row  # its window is larger than a digit
    assert "000000: residual over noise" in out


def test_draws_do_not_depend_on_the_batch_size(cli, tiny_run, pictures):
    for folder, size in (("a", 1), ("b", 64)):
        given = ("--degrade", *BOX, *FEW, "--samples", 2, "--batch-size", size, "-o", folder)
        assert cli("restore", tiny_run, pictures, *given)[0] == 0
    for name in ("000000-0.png", "000001-1.png"):
        assert Path(f"a/{name}").read_bytes() == Path(f"b/{name}").read_bytes()
    assert Path("a/000000-0.png").read_bytes() != Path("a/000000-1.png").read_bytes()


def test_each_tells_the_draws_of_every_picture_the_classes_in_turn(cli, tiny_run, pictures):
    """Draw s of every picture is of class s, whatever the batch size: as if that class had been given for all."""
    given = ("--degrade", *BOX, *FEW, "--samples", 10)
    assert cli("restore", tiny_run, pictures, *given, "--cond.label", "each", "--batch-size", 7, "-o", "each")[0] == 0
    for label in (0, 3):
        assert cli("restore", tiny_run, pictures, *given, "--cond.label", label, "-o", f"of-{label}")[0] == 0
        for i in range(2):
            for s in range(10):
                same = Path(f"each/00000{i}-{s}.png").read_bytes() == Path(f"of-{label}/00000{i}-{s}.png").read_bytes()
                assert same == (s == label)


def test_nothing_of_an_earlier_call_is_left_in_the_folder(cli, tiny_run, pictures):
    """What was written into it by somebody else stays."""
    blur = ("--operator", "MotionBlur", "--operator.size", 3)
    assert cli("restore", tiny_run, pictures, "--degrade", *blur, *FEW, "--samples", 3)[0] == 0
    Path("restored/mine.png").write_bytes(b"mine")
    (one,) = [f"{pictures}/000001.png"]
    assert cli("restore", tiny_run, one, "--degrade", *BOX, *FEW)[0] == 0
    ours = {"000001.png", "000001-measured.png", "restored.json", "sheet.png"}
    assert set(os.listdir("restored")) == ours | {"mine.png"}


def test_files_of_somebody_else_in_the_folder_stay(cli, tiny_run, pictures):
    """A picture that is called like a draw, where an earlier call wrote no draws; clean pictures; another report."""
    given = ("--degrade", *BOX, *FEW)
    assert cli("restore", tiny_run, pictures, *given)[0] == 0
    others = [Path("restored/000000-0.png"), Path("restored/000000-spread.png")]
    for path in others:
        path.write_bytes(b"mine")
    assert cli("restore", tiny_run, pictures, *given)[0] == 0
    assert all(path.read_bytes() == b"mine" for path in others)
    shutil.copytree(pictures, "clean")
    before = {path.name: path.read_bytes() for path in Path("clean").iterdir()}
    code, _, err = cli("restore", tiny_run, pictures, *BOX, *FEW, "--truth", "clean", "-o", "clean")
    assert code == 2
    assert "out is clean, where the picture clean/000000.png lies that would be overwritten" in err
    assert {path.name: path.read_bytes() for path in Path("clean").iterdir()} == before
    Path("restored/restored.json").write_text('{"mine": 1}')
    code, _, err = cli("restore", tiny_run, pictures, *given)
    assert code == 2
    assert "restored/restored.json is no report of advect restore: name another folder with --out" in err


def test_a_prior_that_never_went_without_its_class_asks_for_one(cli, tiny_run, pictures):
    flow = advect.Flow.from_pretrained(find_flow(tiny_run))
    flow.conditions = replace(flow.conditions, drop={})
    flow.save_pretrained("told")
    given = ("restore", "told", pictures, "--degrade", *BOX, *FEW)
    code, _, err = cli(*given)
    assert code == 2
    assert "cond.label is not given, and this prior was trained without dropping it: name the class" in err
    assert cli(*given, "--cond.label", 1)[0] == 0
    assert cli(*given, "--cond.label", "each", "--samples", 10)[0] == 0


def test_measurements_are_taken_as_they_are_and_measured_against_the_truth(cli, tiny_run, pictures):
    x = Digits().batch("test", torch.arange(2)).x1
    save_each("low", AverageDown(2)(x))
    given = ("--operator", "AverageDown", "--operator.factor", 2, "--truth", pictures, *FEW)
    assert cli("restore", tiny_run, "low", *given)[0] == 0
    rows = read_json("restored/restored.json")["pictures"]
    assert [row["width"] for row in rows] == [8, 8]
    assert all("PSNR" in row for row in rows)


def test_a_mask_a_kernel_that_is_kept_and_a_larger_picture(cli, tiny_run, pictures):
    seen = np.ones((8, 8), bool)
    seen[2:5, 3:6] = False
    np.save("mask.npy", seen)
    assert cli("restore", tiny_run, pictures, "--mask", "mask.npy", *FEW)[0] == 0
    blur = ("--operator", "MotionBlur", "--operator.size", 3, "--degrade", *FEW, "-o", "large")
    code, out, _ = cli("restore", tiny_run, "large.png", *blur)
    assert code == 0
    assert "large: residual over noise" in out
    assert os.path.exists("large/operator.safetensors")


@pytest.mark.parametrize("method", ["FlowChef", "FlowDPS", "PnPFlow", "OTODE", "Replacement", "DFlow"])
def test_every_method_by_its_name(cli, tiny_run, pictures, method):
    few = {"DFlow": ("--method.iterations", 2, "--method.steps", 2), "PnPFlow": ("--method.steps", 2)}
    given = ("--degrade", *BOX, "--method", method, *few.get(method, ()), "--device", "cpu")
    assert cli("restore", tiny_run, f"{pictures}/000000.png", *given)[0] == 0


def test_calibrated_weights_are_found_and_used(cli, tiny_run, pictures):
    shutil.copytree(tiny_run, "run")
    code, out, _ = cli("calibrate", "run", "--fit", "FitPriorWeights", "--fit.samples", 20, "--fit.points", 8)
    assert code == 0
    assert "velocity error per element" in out
    assert cli("restore", "run", pictures, "--degrade", *BOX, *FEW)[0] == 0
    method = read_json("restored/restored.json")["method"]
    assert method["init_args"]["weights"]["class_path"] == "advect.inverse.CalibratedWeights"
    assert cli("restore", "run", pictures, "--degrade", *BOX, *FEW, "--weights", "none")[0] == 0
    method = read_json("restored/restored.json")["method"]
    assert method["init_args"]["weights"]["class_path"] == "advect.inverse.ConstantWeight"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["digits"], "operator is missing: name how the pictures were degraded with --operator CLASS, or a --mask"),
        (["digits", *BOX, "--mask", "m.png"], "mask is m.png and an operator is given too"),
        (["digits", "--mask", "m.png"], "there is no mask at m.png"),
        (["nowhere.png", *BOX], "there is no picture at nowhere.png"),
        (["digits", "--operator", "Bx"], "operator is Bx, which is no class known there: did you mean Box"),
        (["digits", *BOX, "--operator.top", 7], "digits/000000.png: the box of 4x3 at row 7, column 2 leaves"),
        (["digits", "--operator", "AverageDown", "--operator.factor", 3, "--degrade"], "does not divide a side of 8"),
        (["digits", "--operator", "RandomProjections"], "cannot show random projections"),
        (["small.png", "--operator", "Denoising"], "small.png: the picture is 8x6 and the prior was trained on 8x8"),
        (["digits", *BOX, "--samples", 0], "samples is 0"),
        (["digits", *BOX, "--operator.noise", "-1"], "noise is -1.0"),
        (["digits", *BOX, "--weights", "mine"], "weights is 'mine', and the prior weights of this flow are: none"),
        (["digits", *BOX, "--method", "FlowChef", "--weights", "w"], "but FlowChef has none: they are for Flair"),
        (["digits", *BOX, "--method", "Flair", "--method.end", 2], "end is 2.0: the last time lies between 0 and 1"),
        (["digits", *BOX, "--degrade", "--truth", "digits"], "degrade says that the pictures are clean"),
        (["digits", *BOX, "--truth", "nowhere"], "there is no picture at nowhere"),
        (["digits", *BOX, "--truth", "large.png"], "is 16x16 and the restored one 8x8"),
        (["digits", "digits", *BOX], "two pictures are called 000000"),
        (["digits", *BOX, "--cond.label", 12], "cond.label is 12, but there are 10 classes"),
        (["digits", *BOX, "--cond.label", "each"], "cond.label is each, and samples is 1: every picture is restored"),
        (["digits", *BOX, "-o", "digits"], "out is digits, where the picture digits/000000.png lies"),
        (["large.png", "--operator", "Denoising", "--overlap", 8], "overlap is 8"),
    ],
)
def test_what_cannot_be_restored_is_named_and_nothing_is_written(cli, tiny_run, pictures, arguments, sentence):
    before = set(os.listdir("."))
    assert sentence in cli.refusal("restore", tiny_run, *arguments)
    assert set(os.listdir(".")) == before


def test_weights_of_another_network_and_shares_that_diverge_are_refused(cli, tiny_run, pictures):
    advect.Flow.from_pretrained(find_flow(tiny_run)).save_pretrained("flow")
    save_fitted("flow", "old", CalibratedWeights(fitted_on="elsewhere").fit(torch.ones(5)))
    save_fitted("flow", "sharp", CalibratedWeights(max_beta=None).fit(torch.logspace(0, -3, 50)))
    given = ("restore", "flow", pictures, "--degrade", *BOX)
    assert "were found on other weights of the network: calibrate again" in cli.refusal(*given, "--weights", "old")
    code, _, err = cli(*given, "--weights", "sharp")
    assert code == 2
    assert "the prior weights give a step of beta = " in err
    assert not os.path.exists("restored")
