"""Checkpoints that are whole or absent: written beside, checked by checksums, renamed into place, the last few kept.

``checkpoints/step-00001000/`` is a saved Flow (``flow.json``, ``model.safetensors``: the averaged weights) and, beside
it, what the training needs to go on: ``training.safetensors`` and ``state.json`` with the sha256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from advect.errors import InputError
from advect.files import load_tensors, read_json, save_tensors, sha256, write_json
from advect.flow import Flow

FORMAT = 1


class Checkpoint(NamedTuple):
    """A checkpoint as read: its folder, its step, plain values, tensors by name, and those of the Flow."""

    folder: Path
    step: int
    state: dict[str, Any]
    tensors: dict[str, Tensor]
    flow_tensors: dict[str, Tensor]


def steps_of(folder: str | os.PathLike[str]) -> list[int]:
    """Steps of which there is a checkpoint in `folder`, damaged or not, in ascending order."""
    found = (re.fullmatch(r"step-(\d+)", path.name) for path in Path(folder).glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def path_of(folder: str | os.PathLike[str], step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return Path(folder) / f"step-{step:08d}"


def save(
    folder: str | os.PathLike[str],
    step: int,
    flow: Flow,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    keep_last: int,
) -> Path:
    """Write a checkpoint, then remove all but the `keep_last` newest up to this step.

    Raises:
        InputError: If it cannot be written (disk full); the older ones are untouched.
    """
    target = path_of(folder, step)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        flow.save_pretrained(temporary)
        save_tensors(temporary / "training.safetensors", tensors)
        files = {str(path.relative_to(temporary)): sha256(path) for path in sorted(_files(temporary))}
        described = {"format": FORMAT, "step": step, **state, "files": files}
        write_json(temporary / "state.json", described | {"sha256": _digest(described)})
        _put(temporary, target)
    except OSError as error:
        older = [s for s in steps_of(folder) if s != step]
        rest = f"the checkpoint of step {older[-1]} is untouched" if older else "there is no older one"
        raise InputError(
            f"the checkpoint {target} could not be written ({error.strerror}): "
            f"free space or choose another folder; {rest}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in [s for s in steps_of(folder) if s <= step][:-keep_last]:
        shutil.rmtree(path_of(folder, old), ignore_errors=True)
    return target


def save_flow(flow: Flow, target: Path) -> None:
    """Save a Flow into a folder that then is whole, over an older one if there is one.

    A finished run that is asked for again ends with the weights it ended with before: then the older one stays, with
    the sampler and the parts that were found for it since.
    """
    if _holds(target, flow):
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        flow.save_pretrained(temporary)
        _put(temporary, target)
    except OSError as error:
        raise InputError(f"the flow {target} could not be written ({error.strerror}): free space") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _holds(target: Path, flow: Flow) -> bool:
    """Whether a folder holds these weights, undamaged."""
    if not (target / "flow.json").is_file():
        return False
    try:
        hashes = read_json(target / "flow.json")["hashes"]
        whole = sha256(target / "model.safetensors") == hashes["model.safetensors"]
        return whole and hashes["weights"] == flow.weights_hash()
    except (InputError, OSError, KeyError, TypeError):
        return False


def newest(folder: str | os.PathLike[str]) -> Checkpoint | None:
    """The newest checkpoint that is whole; a damaged one is named in a warning and the one before it is taken.

    Raises:
        InputError: If there are checkpoints, but none is whole. Nothing is deleted.
    """
    steps = steps_of(folder)
    faults = []
    for step in reversed(steps):
        try:
            checkpoint = read(path_of(folder, step))
        except InputError as error:
            faults.append(str(error))
            continue
        if faults:
            warnings.warn(
                f"{'; '.join(faults)}: going on from step {step} ({checkpoint.folder}) instead",
                UserWarning,
                stacklevel=2,
            )
        return checkpoint
    if faults:
        raise InputError(
            f"no checkpoint in {folder} is whole ({'; '.join(faults)}): nothing was deleted; "
            "restore one from a copy, or train into another folder"
        )
    return None


def read(folder: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        InputError: If a file is missing, cut short or changed; the sentence names it.
    """
    state = read_json(folder / "state.json")
    digest = state.pop("sha256", None) if isinstance(state, dict) else None
    if digest is None or digest != _digest(state):
        raise InputError(f"{folder / 'state.json'} is damaged")
    if state["format"] > FORMAT:
        raise InputError(f"{folder / 'state.json'} has format {state['format']}: install a newer advect")
    for name, expected in state["files"].items():
        path = folder / name
        if not path.exists():
            raise InputError(f"{path} is missing")
        if sha256(path) != expected:
            raise InputError(f"{path} is damaged")
    return Checkpoint(
        folder,
        state["step"],
        state,
        load_tensors(folder / "training.safetensors"),
        load_tensors(folder / "model.safetensors"),
    )


def clear_leftovers(run: str | os.PathLike[str]) -> None:
    """Remove what writes and saves that were killed have left in a run folder; nothing whole has such a name."""
    run = Path(run)
    for path in (*run.glob("checkpoints/.step-*"), *run.glob(".flow.*")):
        shutil.rmtree(path, ignore_errors=True)
    for path in (*run.glob(".*"), *run.glob("*/.*")):
        if path.is_file() and re.fullmatch(r"\..+\.\d+-[0-9a-f]{8}", path.name):  # as write_atomically names them
            path.unlink(missing_ok=True)


def find_flow(folder: str | os.PathLike[str]) -> Path:
    """The saved Flow in a folder: the folder itself, its ``flow/`` (a finished run), or its newest whole checkpoint.

    Raises:
        InputError: If there is none.
    """
    folder = Path(folder)
    for path in (folder, folder / "flow"):
        if (path / "flow.json").exists():
            return path
    stages = [path for path in folder.glob("*/checkpoints") if path.is_dir()]
    stages += [path for path in folder.glob("*/training/checkpoints") if path.is_dir()]  # reflow trains in there
    numbers = {path: _number(path.relative_to(folder).parts[0]) for path in stages}
    stages = sorted((path for path in stages if numbers[path] > 0), key=lambda path: numbers[path], reverse=True)
    for checkpoints in (folder / "checkpoints", *stages):
        checkpoint = newest(checkpoints)
        if checkpoint is not None:
            return checkpoint.folder
    raise InputError(f"{folder} holds no saved flow and no checkpoint: give a run folder or a flow's folder")


def _number(stage: str) -> int:
    """The 10 of a stage's folder ``10-train``; 0 for other folders, such as the runs in a folder of runs."""
    number, _, name = stage.partition("-")
    return int(number) if number.isdigit() and name[:1].isalpha() else 0


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _put(temporary: Path, target: Path) -> None:
    """Rename into place, over a damaged checkpoint of the same step if there is one, and flush the folder to disk."""
    if target.exists():
        aside = target.with_name(f".{target.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(target, aside)
        os.rename(temporary, target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(temporary, target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
