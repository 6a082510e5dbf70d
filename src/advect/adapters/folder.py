"""The folder of a diffusers pipeline as a Flow: local files, safetensors, nobody's code."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from advect.adapters.families import Wish, family_of, plan, refuse_missing
from advect.adapters.pipeline import from_pipeline
from advect.errors import InputError, require
from advect.files import read_json
from advect.flow import Flow
from advect.saving import load_fitted

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def is_pipeline(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a diffusers pipeline."""
    return (Path(folder) / "model_index.json").is_file()


def from_pretrained(folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **options: Any) -> Flow:
    """Open a diffusers folder (one with a ``model_index.json``) as a Flow; only local safetensors files are read.

    Parts that ``advect calibrate`` found for it and wrote into ``fitted/`` come along.

    Args:
        folder: What ``pipe.save_pretrained`` or a download left.
        dtype: The type of all weights; None for the one each part is stored in. States are float32 in any case.
        options: As in :func:`advect.adapters.from_pipeline`.

    Raises:
        InputError: If the folder is no pipeline of the four, names code outside diffusers and transformers, lacks its
            weights as safetensors, or does not make what is asked; all but the weights is seen before they are read.
    """
    folder = Path(folder)
    if not is_pipeline(folder):
        raise InputError(
            f"{folder} has no model_index.json: give the folder of a diffusers pipeline; none is downloaded"
        )
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype is {dtype!r}: give a type of torch, such as torch.bfloat16")
    inspect.signature(from_pipeline).bind(None, **options)
    name = _checked(folder, {key: options[key] for key in Wish.__dataclass_fields__ if key in options})
    diffusers = require("diffusers", "diffusers", "a diffusers pipeline")
    types = _stored_types(folder) if dtype is None else dtype
    try:
        with _without_bars("diffusers", "transformers"):
            pipe = getattr(diffusers, name).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=types
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} cannot be read as a {name} of safetensors files: {reason}") from error
    flow = from_pipeline(pipe, **options)
    for path in sorted(folder.glob("fitted/*/part.json")):
        flow.fitted[path.parent.name] = load_fitted(folder, path.parent.name)
    return flow


def _checked(folder: Path, wish: dict[str, Any]) -> str:
    """The pipeline's class, if it makes what is asked and its parts are nobody else's code."""
    index = folder / "model_index.json"
    described = read_json(index)
    if not isinstance(described, dict):
        raise InputError(f"{index} does not describe a pipeline")
    name = str(described.get("_class_name"))
    family_of(name)
    for part, value in described.items():
        library = value[0] if isinstance(value, list) and value else None
        if library not in (None, "diffusers", "transformers"):
            raise InputError(
                f"{index} takes its {part} from {library}: only parts of diffusers and transformers are run"
            )
    named = {part for part, value in described.items() if isinstance(value, list) and any(value)}
    refuse_missing(name, named)
    parts = [folder / part / "config.json" for part in ("transformer", "vae")]
    for path in parts:
        if not path.is_file():
            raise InputError(f"{path} is missing: the folder of a {name} has it")
    plan(name, described, read_json(parts[0]), read_json(parts[1]), Wish(**wish))
    for part in sorted(named):
        if not (folder / part).is_dir():
            raise InputError(f"{folder / part} is missing, and {index.name} names it: copy the whole folder again")
    return name


def _stored_types(folder: Path) -> dict[str, torch.dtype]:
    """The type of the first tensor of each part's weights; variants (``model.fp16.safetensors``) are not read."""
    out: dict[str, torch.dtype] = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        if "." in path.stem or not (path.parent / "config.json").is_file():
            continue
        header = _header(path)
        kinds = [value["dtype"] for key, value in header.items() if key != "__metadata__" and value["dtype"] in FLOATS]
        if kinds:
            out.setdefault(path.parent.name, FLOATS[kinds[0]])
    return {"default": torch.float32} | out


def _header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors, without them."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            return json.loads(file.read(min(length, path.stat().st_size)))
        except ValueError as error:  # no JSON, or no text at all
            raise InputError(
                f"{path} is no whole safetensors file ({error}): download it again; a few lines of text in its place "
                "are a pointer that `git lfs pull` replaces"
            ) from error


@contextlib.contextmanager
def _without_bars(*libraries: str) -> Iterator[None]:
    """Progress bars of these libraries switched off, and on again where they were on."""
    logs = [require(f"{library}.utils.logging", "diffusers", "a diffusers pipeline") for library in libraries]
    shown = [log for log in logs if log.is_progress_bar_enabled()]
    try:
        for log in shown:
            log.disable_progress_bar()
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()
