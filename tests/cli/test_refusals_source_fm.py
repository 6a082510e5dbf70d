"""Pruned sources from the command line: found on data, used by name, and refused before time is spent."""

from __future__ import annotations

import json
import shutil

import numpy
import pytest
import torch

import advect
from advect.saving import save_fitted
from advect.sources import Gaussian, PrunedSource


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the tiny run, so that what is fitted here stays here."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def test_calibrate_then_sample(cli, run):
    code, out, _ = cli("calibrate", run, "--fit", "FitPrunedSource", "--fit.flips", "false", "--data", "Digits")
    assert code == 0
    assert "sides of principal axes face no data" in out
    assert "% pass" in out
    part = json.loads(next(run.rglob("fitted/pruned/part.json")).read_text())["part"]
    assert part["class_path"] == "advect.sources.PrunedSource"
    assert part["init_args"]["source"]["class_path"] == "advect.sources.Gaussian"
    for name, more in (("a", ["--fitted", "pruned"]), ("b", [])):
        code, _, err = cli("sample", run, "-n", 20, "--out", f"{name}.npy", "--steps", 2, *more)
        assert code == 0, err
    assert (numpy.load("a.npy") != numpy.load("b.npy")).any()


def test_wrong_settings_of_the_search_are_named(cli, run):
    for options, sentence in (
        (["--fit.tau_data", "2"], "tau_data is 2.0: a cosine lies between -1 and 1"),
        (["--fit.target_accept", "0"], "target_accept is 0.0: a share of draws"),
        (["--fit.tau_inf", "-0.5"], "tau_inf is -0.5, with which 0 of the draws pass"),
        (["--fit.axes", "0"], "axes is 0"),
        (["--data", "Emoji"], "shape"),
    ):
        assert sentence in cli.refusal("calibrate", run, "--fit", "FitPrunedSource", "--data", "Digits", *options)
    assert not list(run.rglob("fitted/pruned"))


def _keep(run, part: PrunedSource) -> None:
    save_fitted(next(run.rglob("flow.json")).parent, "pruned", part)


def test_a_source_that_accepts_nothing_is_refused_before_time_is_spent(cli, run):
    _keep(run, PrunedSource.of(torch.eye(64), tau=-0.5, acceptance=0.0, source=Gaussian()))
    sentence = cli.refusal("sample", run, "--fitted", "pruned", "--out", "x.npy")
    assert "PrunedSource with tau=-0.5 and 64 rejected axes: no draw passed when it was measured; raise tau" in sentence


def test_axes_of_other_states_and_solvers_that_need_a_score_are_refused(cli, run):
    _keep(run, PrunedSource.of(torch.eye(10)[:2], tau=0.1))
    assert "the rejected axes have 10 coordinates, but the state has 64" in cli.refusal(
        "sample", run, "--fitted", "pruned", "--out", "x.npy"
    )
    _keep(run, PrunedSource.of(torch.eye(64)[:2], tau=0.1))
    assert (
        "EulerMaruyama needs a score, but samples start from PrunedSource, and the velocity was trained from"
        in cli.refusal("sample", run, "--fitted", "pruned", "--out", "x.npy", "--solver", "EulerMaruyama")
    )


def test_sources_without_what_training_finds_are_refused(cli, run):
    for name, sentence in (
        ("NormAligned", "NormAligned has no scale yet"),
        ("ClusterVonMisesFisher", "ClusterVonMisesFisher has no clusters yet"),
        ("FittedMixture", "FittedMixture has no components yet"),
        ("VonMisesFisher", "the source VonMisesFisher reads the data, so it serves training only"),
        ("MaskedFrequencies", "MaskedFrequencies has no mask yet"),
    ):
        assert sentence in cli.refusal("sample", run, "--source", name, "--out", "x.npy")
    assert "source.radius is max: choose from chi, mean" in cli.refusal(
        "sample", run, "--source", "ChiSphere", "--source.radius", "max"
    )


def test_training_with_an_aligned_source_keeps_its_scale(cli, recipe, tmp_path):
    code, _, err = cli("train", recipe, "--folder", "out", "--quiet", "--transport.source", "NormAligned")
    assert code == 0, err
    flow = advect.Flow.from_pretrained(next((tmp_path / "out").rglob("flow.json")).parent)
    assert flow.transport.source.gaussian == pytest.approx((0.0, 0.83), abs=0.1)


def test_recipes_run_as_they_stand_and_the_large_one_up_to_its_data(cli, tmp_path):
    code, out, err = cli("train", "source-fm", "--dry-run")
    assert code == 0, err
    assert "NormAligned" in out
    assert "cifar-10 is not a folder" in cli.refusal("train", "source-fm-full", "--dry-run")
    numbers = numpy.random.default_rng(0)
    (tmp_path / "cifar-10").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        rows = numbers.integers(0, 256, (10, 3073), dtype=numpy.uint8)
        rows[:, 0] = numpy.arange(10)
        rows.tofile(tmp_path / "cifar-10" / f"{name}.bin")
    code, out, err = cli("train", "source-fm-full", "--dry-run")
    assert code == 0, err
    assert "200000 steps of 512 samples" in out
