"""Laws of every distribution of pairs of times."""

from __future__ import annotations

import pickle

import pytest
import torch

from advect import times
from advect.parts import build, config_of
from advect.times import ClippedPairs, LogitNormal, SortedPairs, TimePairs, Uniform

ALL = [
    SortedPairs(),
    SortedPairs(LogitNormal(2.0, 2.0), 0.25, "random"),
    SortedPairs(Uniform(), 0.0),
    SortedPairs(Uniform(), 1.0),
    ClippedPairs(),
    ClippedPairs(boundary=0.5, choice="first"),
]
every = pytest.mark.parametrize("pairs", ALL, ids=str)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_kind_of_pairs_is_tested():
    kinds = {m for m in vars(times).values() if isinstance(m, type) and issubclass(m, TimePairs)} - {TimePairs}
    assert kinds == {type(pairs) for pairs in ALL}


@every
def test_config_and_pickle_give_the_same_part(pairs: TimePairs):
    assert build(config_of(pairs)) == pairs
    assert pickle.loads(pickle.dumps(pairs)) == pairs


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_come_before_ends_in_the_unit_interval(pairs: TimePairs, dtype: torch.dtype):
    r, t = pairs.sample(5000, seeded(), dtype=dtype)
    assert r.dtype == t.dtype == dtype
    assert r.shape == t.shape == (5000,)
    assert bool(((r >= 0) & (r <= t) & (t <= 1)).all())
    assert float((r == t).float().mean()) >= pairs.boundary - 0.02


@every
def test_same_seed_same_pairs(pairs: TimePairs):
    one, two, three = (torch.stack(pairs.sample(50, seeded(seed))) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


@every
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_every_sample_is_on_one_side_and_those_at_the_boundary_are_never_taken_for_jumps_by_count(
    pairs: TimePairs, n: int
):
    r, t = pairs.sample(n, seeded())
    still, moving = pairs.split(r, t)
    assert sorted([*still.tolist(), *moving.tolist()]) == list(range(n))
    count = pairs.jumps(n)
    assert count is None or len(moving) == count
    assert bool((r == t)[still].all())  # what is left out of the derivative has none
    if pairs.boundary and pairs.choice == "first":
        assert len(still) == max(1, int(pairs.boundary * n))
