"""What goes wrong in the middle of a training: kills, damage, full disks, numbers that are not finite."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import shutil
import signal
from pathlib import Path

import pytest
import torch
from run_small import Net, outcome, run, small
from torch import Tensor

import advect
from advect.errors import InputError
from advect.objectives import Loss, Networks, Objective
from advect.training import NotFinite
from advect.training.checkpoints import newest, path_of, steps_of
from advect.training.logs import read_log

PROCESSES = multiprocessing.get_context("forkserver")  # imports torch once for all the processes that are killed
PROCESSES.set_forkserver_preload(["advect.training"])


def exit_code(
    folder: Path, *, step: int | None = None, write: int | None = None, number: int = signal.SIGKILL
) -> int | None:
    """Run the small training in a process that gets a signal at a step, or at one of the writes of its saves."""
    process = PROCESSES.Process(target=run, args=(str(folder), int(number), step, write))
    process.start()
    process.join(120)
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    small(folder)
    return folder


def moments(count: int) -> list[tuple[str, int]]:
    """Moments drawn from a seed: half of them after a step, half inside a save (the writes of files are counted)."""
    draw = random.Random(20)
    steps, writes = draw.sample(range(1, 40), count // 2), draw.sample(range(2, 24), count - count // 2)
    return [("step", step) for step in steps] + [("write", write) for write in writes]


@pytest.mark.parametrize(("kind", "place"), moments(20))
def test_a_killed_run_ends_as_one_that_was_not(kind: str, place: int, whole: Path, tmp_path: Path) -> None:
    assert exit_code(tmp_path / "run", **{kind: place}) == -signal.SIGKILL
    small(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(whole)


def test_the_log_has_each_step_once(whole: Path) -> None:
    assert [row["step"] for row in read_log(whole / "log.jsonl")] == [6, 12, 18, 24, 30, 36, 40]


def test_a_kill_inside_a_save_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    assert exit_code(tmp_path / "run", write=10) == -signal.SIGKILL
    leftovers = list((tmp_path / "run" / "checkpoints").glob(".step-*"))
    assert leftovers, "the kill was meant to fall inside a save"
    assert newest(tmp_path / "run" / "checkpoints") is not None
    small(tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob(".step-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_saves_first(number: int, whole: Path, tmp_path: Path) -> None:
    ended = exit_code(tmp_path / "run", step=19, number=number)
    assert ended == (143 if number == signal.SIGTERM else 1)  # 1 is what multiprocessing makes of KeyboardInterrupt
    assert steps_of(tmp_path / "run" / "checkpoints")[-1] == 19
    small(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(whole)


FILES = ("model.safetensors", "training.safetensors", "flow.json", "state.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(
    name: str, damage: str, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    spoil(path_of(folder / "checkpoints", 40) / name, damage)
    with pytest.warns(UserWarning, match=rf"step-00000040/{name}.*from step 32"):
        small(folder)
    assert outcome(folder) == outcome(whole)


def spoil(path: Path, damage: str) -> None:
    """Cut a file short, flip one bit in its middle, or remove it."""
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def test_without_a_good_checkpoint_there_is_an_error_and_nothing_is_deleted(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for step in steps_of(folder / "checkpoints"):
        spoil(path_of(folder / "checkpoints", step) / "training.safetensors", "flip")
    before = sorted(str(path) for path in folder.rglob("*"))
    with pytest.raises(InputError, match=r"no checkpoint in .* is whole .*nothing was deleted"):
        small(folder)
    assert sorted(str(path) for path in folder.rglob("*")) == before


def test_a_full_disk_is_an_error_and_older_checkpoints_stay(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    small(folder, steps=16, schedule="constant", width=128)
    size = max(path.stat().st_size for path in path_of(folder / "checkpoints", 16).iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size * 2 // 3, hard))
    try:
        with pytest.raises(InputError, match=r"step-00000024 could not be written .*step 16 is untouched"):
            small(folder, steps=40, schedule="constant", width=128)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert steps_of(folder / "checkpoints") == [8, 16]
    assert not list((folder / "checkpoints").glob(".step-*"))
    small(folder, steps=40, schedule="constant", width=128)
    other = tmp_path / "other"
    small(other, steps=40, schedule="constant", width=128)
    assert outcome(folder)["training"] == outcome(other)["training"]


def test_a_changed_recipe_is_refused_with_the_keys_that_differ(whole: Path) -> None:
    with pytest.raises(InputError, match=r"settings\.batch_size \(32 -> 16\), settings\.lr \(0\.001 -> 0\.002\): give"):
        small(whole, lr=2e-3, batch_size=16)
    with pytest.raises(InputError, match=r"other values of seed \(0 -> 1\)"):
        small(whole, seed=1)
    with pytest.raises(InputError, match=r"settings\.steps \(40 -> 80\)"):  # a cosine depends on its end
        small(whole, steps=80)
    small(whole, keep_last=3, prefetch=1)  # what changes no number may change


def test_changed_data_are_refused(tmp_path: Path) -> None:
    x = torch.randn(64, 2)
    options = {"steps": 4, "batch_size": 8, "folder": tmp_path / "run", "tensorboard": False, "device": "cpu"}
    advect.train(Net(16), x, **options)
    x[5, 1] += 1e-3
    with pytest.raises(InputError, match=r"other values of data\.x1"):
        advect.train(Net(16), x, **options)


def test_a_folder_with_a_run_is_not_overwritten(whole: Path) -> None:
    with pytest.raises(InputError, match="holds a run: let it resume"):
        small(whole, resume=False)


class BadFrom(Objective):
    """Flow matching that breaks at one call, in the loss or in the gradient alone.

    Args:
        call: Which call, from 1.
        gradient: Whether only the gradient breaks.
    """

    def __init__(self, call: int, gradient: bool = False) -> None:
        super().__init__()
        self.call, self.gradient, self.calls = call, gradient, 0

    def loss(self, nets: Networks, batch: advect.Batch, generator: torch.Generator | None) -> Loss:
        self.calls += 1
        t = torch.linspace(0.0, 1.0, len(batch))
        assert batch.x0 is not None
        out: Tensor = nets.model(torch.lerp(batch.x0, batch.x1, t[:, None]), t)
        residual = out - (batch.x1 - batch.x0)
        if self.calls == self.call and self.gradient:  # sqrt has an infinite slope at 0
            residual = residual + (out.sum() * 0.0).sqrt()
        elif self.calls == self.call:
            residual = torch.where((t > 0.7)[:, None], torch.nan, 1.0) * residual
        return Loss(residual, t=t)


@pytest.mark.parametrize("log_every", [5, 50])
def test_a_loss_that_is_not_finite_stops_with_step_times_and_checkpoint(log_every: int, tmp_path: Path) -> None:
    with pytest.raises(
        NotFinite,
        match=r"the loss is not finite at step 13 for t in \[0\.7, 0\.8\], \[0\.8, 0\.9\], \[0\.9, 1\]; "
        r"the last good checkpoint is .*step-00000008: lower lr=0\.001",
    ):
        small(tmp_path / "run", objective=BadFrom(13), log_every=log_every)
    assert steps_of(tmp_path / "run" / "checkpoints") == [8]  # nothing bad is ever saved


def test_a_gradient_that_is_not_finite_stops_with_its_step() -> None:
    with pytest.raises(NotFinite, match=r"the gradient is not finite at step 7 .*no folder was given"):
        small(None, objective=BadFrom(7, gradient=True))


def test_a_log_cut_short_is_mended(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(path_of(folder / "checkpoints", 40))
    with open(folder / "log.jsonl", "a") as file:
        file.write('{"step": 46, "lo')
    small(folder)
    assert outcome(folder) == outcome(whole)


def test_bad_input_makes_no_folder(tmp_path: Path) -> None:
    folder, x = tmp_path / "run", torch.randn(20, 2)
    bad = x.clone()
    bad[3, 1] = torch.nan
    cases = [
        ({"data": bad}, "holds nan in row 3"),
        ({"data": x[:, 0]}, "shape"),
        ({"data": (x, torch.zeros(7, dtype=torch.long))}, "label"),
        ({"data": torch.randn(20, 5)}, r"cannot be called as f\(x, t\) with x of shape \(2, 5\)"),
        ({"stepz": 3}, "no setting 'stepz': did you mean 'steps'"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"drop": {"colour": 0.1}}, "colour"),
        ({"shards": 3}, "shards"),
        ({"device": "gpu9"}, "device is 'gpu9'"),
        ({"start_from": tmp_path / "nothing"}, "holds no saved flow"),
        ({"others": {"teacher": Net(16)}}, "asks for"),
        ({"groups": {"critic": advect.training.Group(lr=1.0)}}, "critic"),
    ]
    for change, sentence in cases:
        options = {"data": x, "folder": folder, "steps": 2, "batch_size": 8, **change}
        with pytest.raises(InputError, match=sentence):
            advect.train(Net(16), options.pop("data"), **options)  # type: ignore[arg-type]  # mixed on purpose
        assert not folder.exists(), change


def test_no_pickle_is_written_or_read(whole: Path) -> None:
    for path in whole.rglob("*"):
        if path.is_file():
            head = path.read_bytes()[:2]
            assert not head.startswith((b"\x80\x02", b"\x80\x04", b"PK")), path
    state = json.loads((path_of(whole / "checkpoints", 40) / "state.json").read_text())
    assert state["step"] == 40
