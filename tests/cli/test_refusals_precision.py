"""Half precision where numbers cancel or overflow is refused before time is spent."""

from __future__ import annotations

import os

import pytest
import torch

from advect.derivatives import central_difference
from advect.errors import InputError


def test_training_in_fp16_is_no_choice(cli):
    sentence = cli.refusal("train", "mean-flow", "--train.precision", "fp16", "--folder", "out")
    assert "train.precision is fp16: choose from float32, bf16, float64" in sentence


@pytest.mark.filterwarnings("ignore:df is 1")  # the warning is tested elsewhere
def test_pairs_of_a_heavy_tailed_source_are_not_stored_in_half_precision(cli, recipe):
    recipe.write_text(
        recipe.read_text()
        + """
transport: {source: {class_path: StudentT, init_args: {df: 1.0}}}
stages:
  - class_path: Train
  - class_path: Reflow
    init_args: {pairs: {class_path: MakePairs, init_args: {n: 64, dtype: float16}}}
"""
    )
    sentence = cli.refusal("train", recipe, "--folder", "out", "--quiet")
    assert "draws leave the range of float16" in sentence
    assert not [name for _, _, names in os.walk("out") for name in names if name.startswith("shard-")]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_difference_quotient_in_half_precision_is_refused(dtype):
    x = torch.ones(3, dtype=dtype)
    with pytest.raises(InputError, match="a difference quotient cancels"):
        central_difference(torch.sin, (x,), (x,))
