"""What goes wrong with transition kernels is answered with one sentence on the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

RECIPE = """
name: tiny
data: Digits
network:
  class_path: PrefixKernel
  init_args: {depth: 1, width: 16, heads: 2, head: {class_path: PlainHead, init_args: {hidden: [8]}}}
objective: ARTM
transport: {interpolant: {class_path: IndependentChain, init_args: {times: [0, 0.5, 1]}}}
drop: {label: 0.1}
train: {steps: 2, batch_size: 8, log_every: 1, tensorboard: false}
"""
CHAIN = ["--transport.interpolant", "IndependentChain"]
PREFIX = ["--network", "PrefixKernel", "--objective", "ARTM", *CHAIN]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--objective", "DTM"], "DTM trains a kernel that sees the state, and the network is MLP: take MLPKernel"),
        (["--network", "MLPKernel"], "MLPKernel is a transition kernel and has no velocity of its own"),
        (["--network", "PrefixKernel", "--objective", "ARTM"], "ARTM draws the next state, and LinearChain"),
        (
            ["--network", "MLPKernel", "--network.patch", "3", "--objective", "DTM"],
            "does not tile",
        ),
        (
            ["--network", "DiTKernel", "--objective", "DTM", *CHAIN],
            "DTM draws the difference x1 - x0, and IndependentChain the next state",
        ),
        (
            [*PREFIX, "--transport.source", "Gaussian", "--transport.source.std", "2"],
            "whose noise is N(0, I), but the source is Gaussian(std=2",
        ),
        (
            ["--network", "HistoryKernel", "--objective", "FHTM", *CHAIN, "--network.steps", "2"],
            "the chain has 3 transitions and the kernel 2",
        ),
        (
            ["--transport.interpolant", "IndependentChain", "--transport.interpolant.times", "[0,0.5]"],
            "rise from 0 to 1",
        ),
        (["--sampler.solver", "ChainSolver"], "ChainSolver, which integrates a kernel, but the network is a field"),
        (
            ["--network", "MLPKernel", "--objective", "DTM", "--sampler.solver", "Euler"],
            "solver is Euler, which integrates a field, but the network is a kernel: take ChainSolver",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_no_folder_is_made(cli, recipe, options, sentence):
    assert sentence in cli.refusal("train", recipe, "--folder", "out", *options)
    assert os.listdir(".") == ["tiny.yaml"]


@pytest.fixture(scope="module")
def chain_run(tmp_path_factory):
    from advect.cli import main

    folder = tmp_path_factory.mktemp("chain")
    (folder / "tiny.yaml").write_text(RECIPE)
    assert main(["train", str(folder / "tiny.yaml"), "--folder", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--solver", "Euler"],
            "solver is Euler, which integrates a field, but the network is a kernel: take ChainSolver",
        ),
        (["--steps", "5"], "a CustomGrid has the 2 steps it was given"),
        (["--grid", "TimeGrid", "--grid.steps", "3"], "the chain was trained at [0.0, 0.5, 1.0] alone"),
        (["--solver", "ChainSolver", "--solver.inner", "FlowMapJumps"], "the head of a kernel is a velocity"),
        (["--guidance", "AutoGuidance"], "take CFG"),
    ],
)
def test_wrong_ways_to_sample_a_kernel_are_named(cli, chain_run, options, sentence):
    assert sentence in cli.refusal("sample", chain_run, "-n", 2, "-o", "out", *options)


def test_calls_of_backbone_and_head_are_shown(cli, chain_run):
    code, out, err = cli("sample", chain_run, "-n", 2, "-o", "out", "--guidance", "CFG", "--cond.label", "3")
    assert code == 0, err
    assert "544 network calls each (32 backbone, 512 head)" in out
    assert json.loads(Path("out/samples.json").read_text())["calls"] == {"backbone": 32, "head": 512}
    code, out, err = cli("evaluate", chain_run, "--n", 8, "-o", "found.json", "--solver", "ChainSolver")
    assert code == 0, err
    assert "544 network calls each (32 backbone, 512 head)" in out
    assert json.loads(Path("found.json").read_text())["calls_by_role"] == {"backbone": 32, "head": 512}
    assert "544 network calls (32 backbone, 512 head)" in (chain_run / "report.html").read_text()


def test_the_recipes_are_sound_but_for_the_data_of_the_full_one(cli, tmp_path):
    code, _, err = cli("train", "transition-matching", "--dry-run")
    assert code == 0, err
    assert "latents.npz does not exist" in cli.refusal("train", "transition-matching-full", "--dry-run")
    draw = np.random.default_rng(0)
    x1, text = (draw.normal(size=size).astype(np.float32) for size in ((40, 4, 8, 8), (40, 6)))
    np.savez(tmp_path / "latents.npz", x1=x1, text=text)
    small = ["--network.depth", "1", "--network.width", "16", "--network.heads", "2", "--network.head.width", "8"]
    code, _, err = cli("train", "transition-matching-full", "--dry-run", "--train.device", "cpu", *small)
    assert code == 0, err
