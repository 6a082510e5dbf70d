"""Coverage of intervals: the level where both laws agree, less where the samples are too narrow."""

from __future__ import annotations

import pytest
import torch

from advect.errors import InputError
from advect.metrics import interval_coverage


def draws(n: int, std: float, seed: int) -> torch.Tensor:
    return std * torch.randn(n, 3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("std", "expected"), [(1.0, 0.9), (0.5, 0.5891), (2.0, 0.9990)])
def test_against_the_normal_law(std, expected):
    found = interval_coverage(draws(20_000, std, 0), draws(20_000, 1.0, 1))
    assert found.shape == (3, 2)
    assert (found - expected).abs().max() < 0.02


def test_samples_beside_the_truth_cover_nothing():
    assert interval_coverage(draws(500, 1.0, 0) + 10, draws(500, 1.0, 1)).max() == 0


def test_refusals():
    with pytest.raises(InputError, match="have to agree"):
        interval_coverage(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(InputError, match="level is 1"):
        interval_coverage(torch.zeros(4, 2), torch.zeros(4, 2), 1.0)
