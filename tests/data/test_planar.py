"""Planar toy data: support, moments, seeds."""

from __future__ import annotations

import math

import pytest
import torch

from advect.data.planar import Checkerboard, EightGaussians
from advect.errors import InputError


def test_eight_gaussians_have_their_moments():
    x = EightGaussians(n=200_000).points()
    assert x.shape == (200_000, 2)
    angle = torch.atan2(x[:, 1], x[:, 0])
    mode = (angle / (math.pi / 4)).round().long() % 8
    share = torch.bincount(mode, minlength=8) / len(x)
    assert (share - 1 / 8).abs().max() < 0.004
    centre = 4 * torch.stack([(mode * math.pi / 4).cos(), (mode * math.pi / 4).sin()], 1)
    assert (x - centre).std(0).sub(0.3).abs().max() < 0.003


def test_checkerboard_fills_eight_of_sixteen_cells_evenly():
    x = Checkerboard(n=80_000).points()
    cell = ((x + 4) / 2).floor().long()
    assert cell.min() == 0
    assert cell.max() == 3
    assert ((cell[:, 0] - cell[:, 1]) % 2 == 0).all()
    counts = torch.bincount(cell[:, 0] * 4 + cell[:, 1], minlength=16)
    assert (counts > 0).sum() == 8
    assert (counts[counts > 0] / len(x) - 1 / 8).abs().max() < 0.01


@pytest.mark.parametrize("data", [EightGaussians(n=500), Checkerboard(n=500)])
def test_same_seed_same_points_and_splits_differ(data):
    again = type(data)(n=500)
    index = torch.tensor([3, 4, 499])
    assert torch.equal(data.batch("train", index).x1, again.batch("train", index).x1)
    assert not torch.equal(data.points("train")[:50], data.points("validation")[:50])
    assert not torch.equal(data.points(), type(data)(n=500, seed=1).points())


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="cells is 3: a checkerboard has an even number"):
        Checkerboard(cells=3)
    with pytest.raises(InputError, match="n is 0"):
        EightGaussians(n=0)
