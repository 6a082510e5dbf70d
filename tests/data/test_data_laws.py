"""What holds for every kind of data."""

from __future__ import annotations

import json

import pytest
import torch
from data_examples import EXAMPLES
from torch import Tensor

from advect import data
from advect.batch import Batch
from advect.data import Data, describe
from advect.data.splits import SPLITS
from advect.parts import build, config_of
from advect.randomness import generator


def columns(batch: Batch) -> dict[str, Tensor]:
    found = {"x1": batch.x1, **{f"cond {k}": v for k, v in batch.cond.items()}}
    found |= {f"extra {k}": v for k, v in batch.extras.items()}
    return found if batch.x0 is None else found | {"x0": batch.x0}


def same(a: Batch, b: Batch) -> None:
    left, right = columns(a), columns(b)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=0, msg=name)


def everything(example: Data, split) -> Batch:
    return example.batch(split, torch.arange(example.size(split)))


def test_every_kind_of_data_has_an_example():
    kinds = {
        name
        for name in data.__all__
        if isinstance(kind := getattr(data, name), type) and issubclass(kind, Data) and not kind.__abstractmethods__
    }
    assert kinds == {name.split()[0] for name in EXAMPLES}


def test_a_batch_is_the_stack_of_its_samples(example: Data):
    index = torch.randperm(example.size(), generator=generator(0))[:7]
    batch = example.batch("train", index)
    singles = [columns(example.batch("train", index[i : i + 1])) for i in range(len(index))]
    for name, value in columns(batch).items():
        torch.testing.assert_close(value, torch.cat([single[name] for single in singles]), rtol=0, atol=0)


def test_same_numbers_twice_and_from_a_fresh_opening(example: Data):
    index = torch.arange(min(5, example.size()))
    first = example.batch("train", index)
    first.x1.add_(1.0)  # a caller may write into its batch
    second = example.batch("train", index)
    torch.testing.assert_close(first.x1 - 1.0, second.x1, rtol=0, atol=1e-6)
    if not isinstance(example, data.Tensors) and "Tensors" not in json.dumps(config_of(example)):
        again = build(json.loads(json.dumps(config_of(example))), trust_remote_code=True)
        assert again == example
        same(again.batch("train", index), second)


def test_same_generator_same_numbers(example: Data):
    index = torch.arange(min(16, example.size()))
    draws = [example.batch("train", index, generator(seed)) for seed in (1, 1, 2)]
    same(draws[0], draws[1])
    if isinstance(example, (data.HorizontalFlip, data.Shift, data.TwoDomains)):
        assert any(
            not torch.equal(a, b) for a, b in zip(columns(draws[0]).values(), columns(draws[2]).values(), strict=True)
        )
    else:
        same(draws[0], example.batch("train", index))


def test_values_are_float32_finite_and_pictures_within_one(example: Data):
    for split in SPLITS:
        if not example.size(split):
            continue
        batch = everything(example, split)
        assert batch.x1.shape == (example.size(split), *example.shape)
        for x in (batch.x1, batch.x0):
            if x is not None:
                assert x.dtype == torch.float32
                assert torch.isfinite(x).all()
                assert x.shape == batch.x1.shape
                if example.kind == "image":
                    assert len(example.shape) == 3
                    assert -1.0 <= float(x.min()) < float(x.max()) <= 1.0


def test_conditions_are_declared_and_pass_their_own_check(example: Data):
    for split in SPLITS:
        if example.size(split):
            batch = everything(example, split)
            assert set(batch.cond) == {condition.name for condition in example.conditions}
            for condition in example.conditions:
                value = batch.cond[condition.name]
                assert value.dtype == (torch.int64 if condition.discrete else torch.float32)
                torch.testing.assert_close(condition.check(value), value, rtol=0, atol=0)
                if condition.discrete:
                    assert int(value.max()) < condition.width
                    assert example.class_names is None or len(example.class_names) == condition.width


def test_no_sample_is_in_two_splits(example: Data):
    seen: dict[bytes, str] = {}
    total = 0
    for split in SPLITS:
        if example.size(split):
            for row in everything(example, split).x1:
                assert seen.setdefault(row.numpy().tobytes(), split) == split
                total += 1
    assert total == sum(example.size(split) for split in SPLITS)
    assert example.size("train") > 0


def test_description_is_plain_and_true(example: Data):
    said = describe(example)
    assert json.loads(json.dumps(said)) == said
    assert tuple(said["shape"]) == example.shape
    assert said["splits"] == {split: example.size(split) for split in SPLITS}
    assert said["paired"] == ("x0" in columns(everything(example, "train")))
    low, high = said["range"]
    assert low <= said["mean"] <= high


def test_nothing_is_opened_by_the_constructor(tmp_path):
    absent = str(tmp_path / "absent")
    for kind in (data.Arrays, data.ImageFolder, data.Idx, data.Cifar10, data.WebDataset, data.HuggingFace):
        kind(absent)
    data.FromCallable("absent:make")


def test_numbers_beyond_the_end_are_refused(example: Data):
    with pytest.raises(IndexError):
        example.batch("train", torch.tensor([example.size()]))
