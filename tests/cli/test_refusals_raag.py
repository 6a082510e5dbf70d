"""Guidance through the command line: what is refused before anything is drawn, and a rule fitted to a flow and used."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from advect.flow import Flow


@pytest.fixture(scope="module")
def never_dropped(tiny_run, tmp_path_factory):
    """The tiny flow, as if it had been trained without dropping its condition."""
    folder = tmp_path_factory.mktemp("never-dropped") / "flow"
    flow = Flow.from_pretrained(tiny_run / "flow")
    flow.conditions = type(flow.conditions)(flow.conditions.items)
    flow.save_pretrained(folder)
    return folder


@pytest.fixture
def own(tiny_run, tmp_path):
    """A copy of the tiny flow to write into."""
    shutil.copytree(tiny_run / "flow", tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--guidance", "RAAG", "--guidance.w_max", "0.5"], "w_max is 0.5: the largest scale is at least 1"),
        (["--guidance", "RAAG", "--guidance.alpha", "-2"], "alpha is -2.0: it is at least 0"),
        (["--guidance", "RAAG", "--guidance.scope", "token"], "choose from sample, batch"),
        (["--guidance", "RAAG", "--guidance.scale", "7"], "RAAG has no argument 'scale' (key guidance.scale)"),
        (["--guidance", "RAG"], "guidance is RAG, which is no class known there: did you mean RAAG"),
        (["--guidance", "AutoGuidance"], "AutoGuidance compares with a weaker model"),
        (["--guidance", "AutoGuidance", "--weak", "nowhere"], "there is no flow at nowhere"),
        (["--guidance", "AutoGuidance", "--weak", "emoji"], "the weaker flow has shape"),
        (["--fitted", "raag"], "fitted names 'raag', and the parts found for this flow are none"),
    ],
)
def test_wrong_guidance_is_named_before_anything_is_written(cli, own, options, sentence):
    before = sorted(own.rglob("*"))
    assert sentence in cli.refusal("sample", own, "--cond.label", "3", *options)
    assert sorted(own.rglob("*")) == before


@pytest.mark.parametrize("rule", ["CFG", "RAAG", "APG", "CFGZeroStar", "Rescale"])
def test_a_flow_without_a_null_is_not_guided_against_it_and_old_samples_stay(cli, never_dropped, tmp_path, rule):
    out = tmp_path / "out"
    assert cli("sample", never_dropped, "-n", "3", "-o", out)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    solver = ("--solver", "Euler")
    sentence = cli.refusal("sample", never_dropped, "-n", "2", "-o", out, "--guidance", rule, *solver)
    assert f"{rule} compares with the null condition, but this flow was trained without dropping label" in sentence
    assert "drop={'label': 0.1}" in sentence
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "was trained without dropping label" in cli.refusal(
        "sample", never_dropped, "--dry-run", "--guidance", rule, *solver
    )
    assert "was trained without dropping label" in cli.refusal(
        "evaluate", never_dropped, "--n", "8", "--guidance", rule, *solver
    )


def test_a_rule_that_never_compares_needs_no_null(cli, never_dropped):
    assert cli("sample", never_dropped, "-n", "2", "-o", "x.npz", "--guidance", "CFG", "--guidance.scale", "1")[0] == 0


def test_guidance_without_a_condition_is_warned_of(cli, own):
    code, _, err = cli("sample", own, "-n", "2", "-o", "x.npz", "--guidance", "CFG")
    assert code == 0
    assert "advect: warning: guidance compares with the null condition, and no condition is given" in err


def test_a_weaker_flow_is_compared_with(cli, own, tiny_run, tmp_path):
    weaker = Flow.from_pretrained(own)
    with torch.no_grad():
        next(weaker.network.parameters()).mul_(0.5)
    weaker.save_pretrained(tmp_path / "weaker")
    common = ("-n", "4", "--cond.label", "3", "--steps", "3")
    outs = []
    for name, options in (
        ("plain", ()),
        ("same", ("--guidance", "AutoGuidance", "--weak", own)),
        ("weaker", ("--guidance", "AutoGuidance", "--weak", tmp_path / "weaker")),
    ):
        assert cli("sample", own, *common, "-o", f"{name}.npz", *options)[0] == 0
        outs.append(_samples(tmp_path / f"{name}.npz"))
    calls = json.loads((tmp_path / "weaker.json").read_text())["calls"]
    assert calls["weak"] == calls["model"]
    assert (outs[0] - outs[1]).abs().max() < 1e-5
    assert (outs[0] - outs[2]).abs().max() > 1e-3
    guided = ("--guidance", "AutoGuidance", "--weak", tmp_path / "weaker")
    assert cli("evaluate", own, "--n", "8", "--steps", "2", *guided)[0] == 0


def test_compare_takes_a_weaker_flow_for_flows_that_are_sampled_so(cli, own, tmp_path):
    from advect.guidance import AutoGuidance

    flow = Flow.from_pretrained(own)
    flow.sampler = flow.sampler.but(guidance=(AutoGuidance(2.0),))
    flow.save_pretrained(tmp_path / "auto")
    assert "compares with a weaker model" in cli.refusal("compare", tmp_path / "auto", "--n", "8", "--calls", "[2]")
    weak = ("--weak", own)
    assert cli("compare", tmp_path / "auto", "--n", "8", "--calls", "[2]", "-o", "c.html", *weak)[0] == 0


def test_a_rule_is_fitted_shown_and_used(cli, own, tmp_path):
    code, out, _ = cli("calibrate", own, "--fit", "FitRAAG", "--fit.samples", "20", "--steps", "4")
    assert code == 0
    assert "scale 4 at the first step, whose median ratio is" in out
    assert "t = 0.750: ratio" in out
    part = json.loads((own / "fitted" / "raag" / "part.json").read_text())["part"]
    assert part["init_args"]["fitted_on"]
    common = ("-n", "2", "--cond.label", "3", "--steps", "4")
    assert cli("sample", own, *common, "-o", "a.npz", "--fitted", "raag")[0] == 0
    by_hand = ("--guidance", "RAAG", "--guidance.alpha", part["init_args"]["alpha"])
    assert cli("sample", own, *common, "-o", "b.npz", *by_hand)[0] == 0
    assert torch.equal(_samples(tmp_path / "a.npz"), _samples(tmp_path / "b.npz"))


def test_a_rule_of_other_weights_is_refused(cli, own, tmp_path):
    assert cli("calibrate", own, "--fit", "FitRAAG", "--fit.samples", "20", "--steps", "2")[0] == 0
    flow = Flow.from_pretrained(own)
    with torch.no_grad():
        next(flow.network.parameters()).mul_(0.5)
    flow.save_pretrained(tmp_path / "other")
    sentence = cli.refusal("sample", tmp_path / "other", "--cond.label", "3", "--fitted", "raag")
    assert "was fitted on a flow whose weights have the hash" in sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--fit.first_scale", "1"], "scale is 1.0 and w_max 18.0"),
        (["--fit.first_scale", "20"], "is at most w_max"),
        (["--fit.samples", "1"], "samples is 1: a median is taken of 2 or more"),
        (["--fit.w_maxx", "3"], "FitRAAG has no argument 'w_maxx'"),
    ],
)
def test_wrong_options_of_the_fit_are_named(cli, own, options, sentence):
    assert sentence in cli.refusal("calibrate", own, "--fit", "FitRAAG", *options)


def _samples(path) -> torch.Tensor:
    import numpy as np

    return torch.from_numpy(np.load(path)["x1"])


def test_the_recipes_are_valid_as_far_as_their_data(cli, tmp_path):
    import numpy as np

    code, out, _ = cli("train", "raag", "--dry-run")
    assert code == 0
    assert "RAAG" in out
    assert "imagenet/latents.npz does not exist" in cli.refusal("train", "raag-full", "--dry-run")
    small = np.zeros((40, 4, 32, 32), np.float32)
    np.savez(tmp_path / "latents.npz", x1=small, label=np.arange(40) % 4)
    given = ("--data.path", "latents.npz", "--network.size", "XXS")
    code, out, _ = cli("train", "raag-full", "--dry-run", *given)
    assert code == 0
    assert "state: (4, 32, 32)" in out
