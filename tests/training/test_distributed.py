"""Several processes give the numbers of one: DDP and FSDP2 over two gloo processes."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from run_small import ForwardMode, small
from torch import Tensor

from advect.errors import InputError
from advect.files import load_tensors
from advect.objectives import MeanFlow, SplitMeanFlow
from advect.times import SortedPairs
from advect.training.checkpoints import path_of, steps_of
from advect.training.logs import CLOCK, read_log

pytest.importorskip("accelerate")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["advect.training"])
SETTINGS: dict[str, Any] = {
    "steps": 50,
    "precision": "float64",
    "schedule": "constant",
    "shards": 2,
    "log_every": 5,
    "sample_every": 25,
    "checkpoint_every": 25,
}


def one_of(rank: int, count: int, port: int, sharded: bool, folder: str, options: dict[str, Any]) -> None:
    """What each process does, with what a launcher sets in its environment."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        ACCELERATE_USE_FSDP=str(sharded).lower(),
        FSDP_VERSION="2",
        OMP_NUM_THREADS="1",
    )
    torch.set_num_threads(1)
    small(folder, seed_network=3 + rank, **options)  # weights drawn differently: those of the first are shared
    if sharded:
        from torch.distributed.fsdp import FSDPModule

        assert any(isinstance(module, FSDPModule) for module in _alive()), "nothing was sharded"
    torch.distributed.destroy_process_group()


def _alive() -> list[object]:
    import gc

    return gc.get_objects()


def launch(folder: Path, *, sharded: bool = False, count: int = 2, **options: Any) -> list[int | None]:
    """Train in `count` processes and return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        PROCESSES.Process(target=one_of, args=(rank, count, port, sharded, str(folder), {**SETTINGS, **options}))
        for rank in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(180)
    return [process.exitcode for process in started]


def weights(folder: Path) -> dict[str, Tensor]:
    """Raw weights, averages and moments at the last step."""
    last = path_of(folder / "checkpoints", steps_of(folder / "checkpoints")[-1])
    tensors = load_tensors(last / "training.safetensors") | load_tensors(last / "model.safetensors")
    return {name: value for name, value in tensors.items() if not name.startswith("meter")}


def assert_same_run(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(
            right[name], value, rtol=0.0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    rows = [read_log(folder / "log.jsonl") for folder in (a, b)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    for one, two in zip(*rows, strict=True):
        for key in one.keys() - set(CLOCK):
            assert two[key] == pytest.approx(one[key], abs=1e-6), key


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    small(folder, **SETTINGS)
    return folder


@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp2"])
def test_two_processes_are_one(sharded: bool, alone: Path, tmp_path: Path) -> None:
    assert launch(tmp_path / "run", sharded=sharded) == [0, 0]
    assert_same_run(alone, tmp_path / "run")


@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp2"])
def test_forward_mode_inside_the_wrapped_module(sharded: bool, tmp_path: Path) -> None:
    options = {"objective": ForwardMode(), "steps": 10, "sample_every": None}
    small(tmp_path / "alone", **{**SETTINGS, **options})
    assert launch(tmp_path / "run", sharded=sharded, **options) == [0, 0]
    assert_same_run(tmp_path / "alone", tmp_path / "run")


AVERAGES = {
    "exact": MeanFlow(SortedPairs(boundary=0.25)),
    "differences": MeanFlow(SortedPairs(boundary=0.25), "differences"),
    "split": SplitMeanFlow(velocity="data"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp2"])
def test_average_velocities_of_two_processes_are_those_of_one(sharded: bool, name: str, tmp_path: Path) -> None:
    options = {"objective": AVERAGES[name], "steps": 10, "sample_every": None, "flow_map": True}
    small(tmp_path / "alone", **{**SETTINGS, **options})
    assert launch(tmp_path / "run", sharded=sharded, **options) == [0, 0]
    assert_same_run(tmp_path / "alone", tmp_path / "run")


@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp2"])
def test_a_checkpoint_of_one_process_resumes_in_two(sharded: bool, alone: Path, tmp_path: Path) -> None:
    small(tmp_path / "run", **{**SETTINGS, "steps": 25})
    assert launch(tmp_path / "run", sharded=sharded) == [0, 0]
    assert_same_run(alone, tmp_path / "run")


@pytest.mark.parametrize("sharded", [False, True], ids=["ddp", "fsdp2"])
def test_a_checkpoint_of_two_processes_resumes_in_one(sharded: bool, alone: Path, tmp_path: Path) -> None:
    assert launch(tmp_path / "run", sharded=sharded, steps=25, shards=None) == [0, 0]  # the shards are kept in the run
    small(tmp_path / "run", **{**SETTINGS, "shards": None})
    assert_same_run(alone, tmp_path / "run")


def test_shards_that_processes_do_not_divide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch_size is 32, which 3 shards do not divide"):
        small(tmp_path / "run", shards=3)
    assert not (tmp_path / "run").exists()


def test_shards_draw_different_numbers() -> None:
    from advect.training.feed import Feed

    feed = object.__new__(Feed)
    feed.path, feed.device = (0, "train"), torch.device("cpu")
    draws = {tuple(torch.rand(3, generator=feed.generator(s, k, "pair")).tolist()) for s in range(4) for k in range(4)}
    assert len(draws) == 16
