"""Files are whole or absent, and what is damaged is named."""

from pathlib import Path

import pytest
import torch

from advect import InputError
from advect.files import hash_tensors, load_tensors, read_json, save_tensors, sha256, write_atomically, write_json


def test_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 2), "b": torch.arange(4), "c": torch.zeros(())}
    save_tensors(tmp_path / "x.safetensors", tensors)
    again = load_tensors(tmp_path / "x.safetensors")
    assert hash_tensors(again) == hash_tensors(tensors)
    write_json(tmp_path / "x.json", {"b": 1, "a": [2]})
    assert list(read_json(tmp_path / "x.json")) == ["b", "a"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.bin"
    write_atomically(target, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("advect.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.randn(30)})
    digest = sha256(path)
    path.write_bytes(path.read_bytes()[:-7])
    assert sha256(path) != digest
    with pytest.raises(InputError, match=r"x\.safetensors is damaged"):
        load_tensors(path)
    with pytest.raises(InputError, match="does not exist"):
        load_tensors(tmp_path / "absent.safetensors")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(tmp_path / "x.json")


def test_the_hash_sees_names_types_shapes_and_values() -> None:
    base = {"a": torch.ones(2, 2)}
    others = [{"b": torch.ones(2, 2)}, {"a": torch.ones(4)}, {"a": torch.ones(2, 2).double()}, {"a": torch.eye(2)}]
    assert len({hash_tensors(x) for x in [base, *others]}) == 5
