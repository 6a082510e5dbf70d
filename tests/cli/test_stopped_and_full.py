"""A call that is stopped halfway or finds no space: one sentence, and nothing of it in what the next call writes."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

import advect
from advect.cli import sample
from advect.cli.shards import Parts
from advect.report import pictures


def test_a_full_disk_is_one_sentence(cli, tiny_run, monkeypatch):
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    options = ("-n", "2", "--steps", "1")
    monkeypatch.setattr(os, "fsync", no_space)
    said = cli.refusal("sample", tiny_run, *options, "-o", "x.npz")
    assert "x1-000000000000.npy cannot be used: No space left on device: free space" in said
    monkeypatch.setattr(sample, "save_each", no_space)
    monkeypatch.setattr(sample, "write_json", lambda *_: None)
    said = cli.refusal("sample", tiny_run, *options, "-o", "out")
    assert said == "advect: what was to be written cannot be used: No space left on device: free space\n"


def test_parts_of_a_stopped_call_do_not_mix_with_the_next(cli, tiny_run, tmp_path, monkeypatch):
    """Stopped after two batches of 4 under another seed; the next call has batches of 5."""
    with monkeypatch.context() as stopped:
        stopped.setattr(Parts, "merge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        given = ("-n", "8", "--steps", "1", "--batch_size", "4", "--seed", "1")
        assert cli("sample", tiny_run, *given, "-o", "x.npz")[0] == 130
    assert len(os.listdir(tmp_path / ".x.npz.parts")) == 2
    given = ("-n", "10", "--steps", "1", "--batch_size", "5", "--seed", "2")
    for name in ("x", "fresh"):
        assert cli("sample", tiny_run, *given, "-o", f"{name}.npz")[0] == 0
    np.testing.assert_array_equal(np.load("x.npz")["x1"], np.load("fresh.npz")["x1"])


def test_pictures_of_a_stopped_call_are_gone_after_a_shorter_one(cli, tiny_run, monkeypatch):
    whole = pictures.save_each

    def one_batch(folder, x, first):
        if first:
            raise KeyboardInterrupt
        whole(folder, x, first)

    with monkeypatch.context() as stopped:
        stopped.setattr(sample, "save_each", one_batch)
        assert cli("sample", tiny_run, "-n", "8", "--steps", "1", "--batch_size", "4", "-o", "out")[0] == 130
    assert cli("sample", tiny_run, "-n", "2", "--steps", "1", "-o", "out")[0] == 0
    assert sorted(os.listdir("out")) == ["000000.png", "000001.png", "samples.json"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("-o", "out.png"), "out is out.png, the name of one picture: name a folder"),
        (("-o", "out.npz", "--format", "png"), "out is out.npz and format png: give one of them"),
        (("-o", "out.npy", "--format", "npz"), "out is out.npy and format npz: give one of them"),
    ],
)
def test_a_name_that_is_no_place_for_the_samples_is_refused(cli, tiny_run, given, sentence):
    assert sentence in cli.refusal("sample", tiny_run, "-n", "2", *given)
    assert os.listdir() == []


def test_files_say_where_there_was_no_space(tmp_path, monkeypatch):
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space") as caught:
        advect.files.write_atomically(tmp_path / "a", "b")
    assert caught.value.filename == str(tmp_path / "a")
