"""The data that ship inside the package: whole, small, licensed, and split without leaks."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from advect.data import Clothing, Digits, Emoji
from advect.data.builtin_sets import FOLDER
from advect.data.splits import SPLITS


@pytest.fixture(scope="module")
def emoji() -> Emoji:
    return Emoji()


def test_sizes_and_classes():
    for example, shape, sizes, classes in (
        (Digits(), (1, 8, 8), [1259, 179, 359], 10),
        (Emoji(), (3, 32, 32), [2527, 320, 319], 9),
        (Clothing(), (3, 32, 32), [3068, 341, 372], 10),
    ):
        assert example.shape == shape
        assert [example.size(split) for split in SPLITS] == sizes
        assert example.conditions[0].width == classes
        for split in SPLITS:
            labels = example.batch(split, torch.arange(example.size(split))).cond["label"]
            assert int(torch.bincount(labels, minlength=classes).min()) > 0


def test_the_files_are_small_licensed_and_packaged():
    files = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert sum(files.values()) < 8_000_000
    assert {"README.md", "LICENSES.txt"} <= files.keys()
    licences = (FOLDER / "LICENSES.txt").read_text()
    for name in ("CC0 1.0", "Attribution 4.0", "MIT License", "Microsoft", "WITHOUT WARRANTY OF ANY KIND"):
        assert name in licences
    root = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())
    packaged = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["advect"]
    assert "data/builtin/*" in packaged


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    theirs = {row.astype(np.uint8).tobytes(): int(label) for row, label in zip(images, labels, strict=True)}
    digits, ours = Digits(), {}
    for split in SPLITS:
        batch = digits.batch(split, torch.arange(digits.size(split)))
        levels = (batch.x1 + 1.0) * 8.0
        assert torch.equal(levels, levels.round())
        rows = levels.byte().flatten(1).numpy()
        ours |= {row.tobytes(): int(label) for row, label in zip(rows, batch.cond["label"], strict=True)}
    assert ours == theirs


def test_an_emoji_is_in_one_split_in_all_its_tones(emoji: Emoji):
    split_of: dict[str, str] = {}
    for split in SPLITS:
        captions = emoji.captions(split)
        assert len(captions) == emoji.size(split)
        for caption in captions:
            untoned = re.sub(r"[:,] (medium-|)(light|medium|dark) skin tone", "", caption)
            assert split_of.setdefault(untoned, split) == split, caption
    assert len(split_of) < sum(emoji.size(split) for split in SPLITS) / 1.5


def test_pictures_of_two_splits_are_not_near_copies(emoji: Emoji):
    x = {split: emoji.batch(split, torch.arange(emoji.size(split))).x1.flatten(1).double() for split in SPLITS}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        apart = torch.cdist(x[a], x[b]).square() / x[a].shape[1]  # pixels in [-1, 1]
        assert float(apart.min()) > 4 * 0.999e-3


def test_tone_pairs_are_the_same_emoji_in_another_tone(emoji: Emoji):
    total = 0
    for split in SPLITS:
        pairs, captions = emoji.pairs(split), emoji.captions(split)
        total += len(pairs)
        assert set(pairs[:, 2].tolist()) == {1, 2, 3, 4, 5}
        assert int(pairs[:, :2].min()) >= 0
        for base, toned, _ in pairs.tolist():
            assert captions[toned].startswith(captions[base].split(":")[0])
            assert "skin tone" in captions[toned]
            assert "skin tone" not in captions[base]
        base, toned = emoji.batch(split, pairs[:, 0]), emoji.batch(split, pairs[:, 1])
        outside = (base.extras["mask"] == 0) & (toned.extras["mask"] == 0)
        assert torch.equal(base.x1.where(outside, 0.0), toned.x1.where(outside, 0.0))  # no trace of compression
        assert float((base.x1 - toned.x1).square().flatten(1).mean(1).min()) > 0.0
    assert total == 1475


def test_masks_are_the_alpha_of_a_picture_on_white(emoji: Emoji):
    batch = emoji.batch("test", torch.arange(emoji.size("test")))
    mask = batch.extras["mask"]
    assert mask.shape == (len(batch), 1, 32, 32)
    assert (float(mask.min()), float(mask.max())) == (0.0, 1.0)
    assert torch.equal(batch.x1.where(mask == 0, 1.0), torch.ones_like(batch.x1))
    assert float((mask > 0).float().mean((1, 2, 3)).min()) > 0.02
