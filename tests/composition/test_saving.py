"""Every kind of model is saved, loaded and resumed: the same weights, the same samples, the same numbers."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from axes import AXES
from cells import arguments_of, attempts, sampled

from advect.flow import Flow
from advect.parts import config_of
from advect.training import PowerEMA, TrainSettings, find_flow, train

ROWS = {
    f"{seat} {name}": attempts({seat: name})[-1]
    for seat in ("objective", "interpolant", "coupling", "source", "prediction", "network", "guidance")
    for name in AXES[seat]
    if (seat, name) not in (("coupling", "Paired"), ("guidance", "AutoGuidance"))  # its weaker model is not kept
} | {"coupling Paired": attempts({"objective": "KStep", "coupling": "Paired"})[-1]}


def trained(row, folder, steps) -> Flow:
    settings = TrainSettings(
        steps=steps,
        batch_size=6,
        device="cpu",
        ema=PowerEMA(),
        checkpoint_every=2,
        log_every=2,
        tensorboard=False,
        schedule="constant",
        warmup=0,
        clip=1.0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return train(**arguments_of(row), settings=settings, folder=folder)


@pytest.mark.parametrize("name", ROWS)
def test_a_run_that_was_stopped_ends_as_one_that_was_not_and_is_read_back(name, tmp_path):
    row = ROWS[name]
    whole = trained(row, tmp_path / "whole", 4)
    trained(row, tmp_path / "stopped", 2)
    resumed = trained(row, tmp_path / "stopped", 4)
    again = Flow.from_pretrained(find_flow(tmp_path / "stopped"))
    tensors = whole.state_dict()
    for other in (resumed, again):
        assert other.kind == whole.kind
        assert other.score_refusal == whole.score_refusal
        assert config_of(other.sampler) == config_of(whole.sampler)
        found = other.state_dict()
        assert tensors.keys() == found.keys()
        for key, value in tensors.items():
            torch.testing.assert_close(value, found[key], rtol=0, atol=0, equal_nan=True, msg=key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(sampled(whole, row), sampled(again, row))
