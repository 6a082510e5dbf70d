"""Stored pairs: the same numbers whatever the layout, x0 from seeds, resume, and damage that is named."""

from __future__ import annotations

import json
import re

import pytest
import torch

from advect.conditions import ClassLabel
from advect.data.pair_writer import PairWriter
from advect.data.pairs import StoredPairs, seeded_source
from advect.errors import InputError
from advect.sources import Gaussian

SHAPE, N = (3, 2), 23


def pairs(n=N):
    index = torch.arange(n)
    x0 = seeded_source(Gaussian(), SHAPE, 5, index)
    return x0, 2 * x0 + 1, {"label": index % 4}


def write(folder, shard_size=10, shards=None, **options):
    writer = PairWriter(
        folder, N, SHAPE, "no score here", conditions=(ClassLabel(4),), shard_size=shard_size, **options
    )
    x0, x1, cond = pairs()
    for shard, numbers in writer.missing()[:shards]:
        rows = slice(numbers.start, numbers.stop)
        writer.write(shard, x0[rows], x1[rows], {"label": cond["label"][rows]})
    return StoredPairs(str(folder))


@pytest.mark.parametrize("shard_size", [1, 7, 10, 23, 100])
@pytest.mark.parametrize("seeded", [False, True])
def test_batches_return_what_was_written_whatever_the_shards(tmp_path, shard_size, seeded):
    options = {"seed": 5, "source": Gaussian()} if seeded else {}
    data = write(tmp_path, shard_size, **options)
    x0, x1, cond = pairs()
    index = torch.tensor([22, 0, 9, 10, 9, 3])
    batch = data.batch("train", index)
    assert batch.x0 is not None
    assert torch.equal(batch.x0, x0[index])
    assert torch.equal(batch.x1, x1[index])
    assert torch.equal(batch.cond["label"], cond["label"][index])
    assert data.size() == N
    assert data.size("validation") == 0
    assert data.shape == SHAPE
    assert data.conditions == (ClassLabel(4),)
    assert data.score_refusal == "no score here"


def test_seeds_leave_no_x0_on_disk_and_float16_halves_the_states(tmp_path):
    full, seeded = write(tmp_path / "full"), write(tmp_path / "seeded", seed=5, source=Gaussian(), dtype="float16")
    assert not list((tmp_path / "seeded").glob("*.x0.npy"))
    sizes = [next((tmp_path / name).glob("shard-00000.x1.npy")).stat().st_size - 128 for name in ("full", "seeded")]
    assert sizes[0] == 2 * sizes[1]
    index = torch.arange(N)
    a, b = full.batch("train", index), seeded.batch("train", index)
    assert torch.equal(a.x0, b.x0)  # drawn again, not rounded
    assert b.x1.dtype == torch.float32
    torch.testing.assert_close(a.x1, b.x1, rtol=1e-3, atol=1e-3)


def test_start_of_a_pair_depends_on_seed_and_number_alone():
    whole = seeded_source(Gaussian(), SHAPE, 5, torch.arange(9))
    assert torch.equal(seeded_source(Gaussian(), SHAPE, 5, torch.tensor([7, 2])), whole[[7, 2]])
    assert not torch.equal(seeded_source(Gaussian(), SHAPE, 6, torch.arange(9)), whole)
    assert len({row.sum().item() for row in whole}) == 9


def test_a_stopped_writer_goes_on_and_other_pairs_are_refused(tmp_path):
    data = write(tmp_path, shards=1)
    with pytest.raises(InputError, match=r"shard-00001.json is missing: the pairs are not finished"):
        data.batch("train", torch.tensor([0]))
    first = (tmp_path / "shard-00000.json").stat().st_mtime_ns
    x1 = write(tmp_path).batch("train", torch.arange(N)).x1
    assert torch.equal(x1, pairs()[1])
    assert (tmp_path / "shard-00000.json").stat().st_mtime_ns == first
    with pytest.raises(InputError, match=r"holds other pairs, which differ in dtype: choose another folder"):
        write(tmp_path, dtype="float16")


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), r"shard-00001\.x1\.npy is damaged: delete"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
            r"shard-00001\.x1\.npy is damaged: delete",
        ),
        (lambda path: path.unlink(), r"shard-00001\.x1\.npy is missing: delete"),
    ],
)
def test_damage_is_named(tmp_path, break_it, sentence):
    write(tmp_path)
    break_it(tmp_path / "shard-00001.x1.npy")
    with pytest.raises(InputError, match=sentence):
        StoredPairs(str(tmp_path)).batch("train", torch.tensor([0]))


def test_bad_arguments_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(InputError, match="x0 cannot be drawn again"):
        PairWriter(tmp_path, 4, SHAPE, "no", seed=1)
    with pytest.raises(InputError, match="dtype is 'int8'"):
        PairWriter(tmp_path, 4, SHAPE, "no", dtype="int8")  # type: ignore[arg-type]  # wrong on purpose
    writer = PairWriter(tmp_path, 4, SHAPE, "no", dtype="float16")
    x = torch.full((4, *SHAPE), 1e6)
    with pytest.raises(InputError, match=r"x1 of shard 0 is not finite as torch.float16: use float32"):
        writer.write(0, x, x)
    with pytest.raises(InputError, match=re.escape("conditions ['label'], but [] are declared")):
        writer.write(0, x, x, {"label": torch.zeros(4)})
    with pytest.raises(InputError, match="the split 'train' alone"):
        write(tmp_path / "a").batch("test", torch.tensor([0]))
    (tmp_path / "a" / "pairs.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="is not of format 1"):
        StoredPairs(str(tmp_path / "a")).size()
