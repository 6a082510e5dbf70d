"""Random changes, and two data sets at two ends: what is drawn, what follows, and what stays."""

from __future__ import annotations

import re
from dataclasses import dataclass

import data_examples as made
import numpy as np
import pytest
import torch

from advect.batch import Batch
from advect.data import Data, Emoji, HorizontalFlip, Shift, Tensors, TwoDomains
from advect.errors import InputError
from advect.randomness import generator


@dataclass(frozen=True)
class Everywhere(Data):
    """A picture whose x0 and mask equal x1, so that a change can be seen to reach all three."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, 6, 6)

    def size(self, split="train") -> int:
        return made.N

    def batch(self, split, index, generator=None) -> Batch:
        x = torch.from_numpy(made.pictures())[index].permute(0, 3, 1, 2).float()
        return Batch(x, {"label": index}, x0=x.clone(), extras={"mask": x[:, :1].clone(), "id": index})


def test_without_a_generator_nothing_is_changed():
    plain = Everywhere().batch("train", torch.arange(made.N))
    for wrapped in (HorizontalFlip(Everywhere(), 1.0), Shift(Everywhere(), 3)):
        assert torch.equal(wrapped.batch("train", torch.arange(made.N)).x1, plain.x1)


def test_a_flip_is_a_mirror_with_its_probability():
    index = torch.arange(made.N).repeat(100)
    plain = Everywhere().batch("train", index)
    batch = HorizontalFlip(Everywhere(), 0.3).batch("train", index, generator(0))
    mirrored = (batch.x1 == plain.x1.flip(-1)).flatten(1).all(1)
    kept = (batch.x1 == plain.x1).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    share, error = float(mirrored.float().mean()), (0.3 * 0.7 / len(index)) ** 0.5
    assert abs(share - 0.3) < 4 * error
    assert torch.equal(HorizontalFlip(Everywhere(), 1.0).batch("train", index, generator(0)).x1, plain.x1.flip(-1))
    assert torch.equal(HorizontalFlip(Everywhere(), 0.0).batch("train", index, generator(0)).x1, plain.x1)


def test_a_shift_moves_by_whole_pixels_and_repeats_edges():
    plain = Everywhere().batch("train", torch.arange(made.N)).x1
    moved = Shift(Everywhere(), 2).batch("train", torch.arange(made.N), generator(0)).x1
    seen = set()
    for before, after in zip(plain, moved, strict=True):
        padded = np.pad(before.numpy(), ((0, 0), (2, 2), (2, 2)), mode="edge")
        hits = [
            (down, across)
            for down in range(5)
            for across in range(5)
            if np.array_equal(padded[:, down : down + 6, across : across + 6], after.numpy())
        ]
        assert len(hits) == 1
        seen.add(hits[0])
    assert len(seen) > 10


@pytest.mark.parametrize("wrapped", [HorizontalFlip(Everywhere()), Shift(Everywhere())])
def test_everything_that_is_laid_out_as_the_picture_follows(wrapped: Data):
    batch = wrapped.batch("train", torch.arange(made.N), generator(3))
    assert batch.x0 is not None
    assert torch.equal(batch.x0, batch.x1)
    assert torch.equal(batch.extras["mask"], batch.x1[:, :1])
    assert torch.equal(batch.extras["id"], torch.arange(made.N))
    assert torch.equal(batch.cond["label"], torch.arange(made.N))


def test_changes_nest_and_reach_built_in_masks():
    nested = HorizontalFlip(Shift(Emoji(), 2), 1.0)
    batch = nested.batch("train", torch.arange(50), generator(0))
    outside = batch.extras["mask"] == 0
    assert torch.equal(batch.x1.where(outside, 1.0), torch.ones_like(batch.x1))


def test_what_cannot_be_changed_is_refused():
    points = Tensors(torch.zeros(4, 2))
    for wrapped in (HorizontalFlip(points), Shift(points)):
        with pytest.raises(InputError, match=re.escape("changes pictures (C, H, W), but samples have shape (2,)")):
            wrapped.batch("train", torch.tensor([0]))
    with pytest.raises(InputError, match=re.escape("probability is 1.5: a probability lies in [0, 1]")):
        HorizontalFlip(points, 1.5)
    with pytest.raises(InputError, match="pixels is 0: a shift is of 1 pixel or more"):
        Shift(points, 0)


# --- two domains ----------------------------------------------------------------------------------------------------

A = Tensors(torch.arange(10.0)[:, None], torch.arange(10) % 2)
B = Tensors(torch.arange(100.0, 130.0)[:, None], torch.arange(30) % 3)


def test_partners_are_drawn_from_the_other_domain_each_as_often():
    index = torch.arange(30).repeat(200)
    batch = TwoDomains(A, B).batch("train", index, generator(0))
    assert batch.x0 is not None
    assert torch.equal(batch.x1[:, 0], 100.0 + index)
    counts = torch.bincount(batch.x0[:, 0].long(), minlength=10).double()
    expected = len(index) / 10
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 27.9  # 99.9 % of chi-square with 9 degrees of freedom
    assert abs(float(torch.corrcoef(torch.stack([batch.x0[:, 0], batch.x1[:, 0]]))[0, 1])) < 4 / len(index) ** 0.5


def test_labels_of_both_ends_stay_with_their_samples():
    batch = TwoDomains(A, B).batch("train", torch.arange(30), generator(1))
    assert batch.x0 is not None
    assert torch.equal(batch.cond["label"], torch.arange(30) % 3)
    assert torch.equal(batch.extras["x0_label"], batch.x0[:, 0].long() % 2)


def test_paired_domains_keep_their_numbers_with_and_without_a_generator():
    both = TwoDomains(A, Tensors(10 * torch.arange(10.0)[:, None]), paired=True)
    for draw in (None, generator(0)):
        batch = both.batch("train", torch.tensor([3, 1]), draw)
        assert batch.x0 is not None
        assert (batch.x0[:, 0].tolist(), batch.x1[:, 0].tolist()) == ([3.0, 1.0], [30.0, 10.0])


def test_domains_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="a has 10 samples in train and b has 30: set paired=False"):
        TwoDomains(A, B, paired=True).size()
    with pytest.raises(InputError, match=re.escape("a has samples of shape (1,) and b of (2,): bring")):
        TwoDomains(A, Tensors(torch.zeros(3, 2))).size()
    with pytest.raises(InputError, match=re.escape("there is no split 'test' in both of a and b: there are ['train']")):
        TwoDomains(A, B).batch("test", torch.tensor([0]))
