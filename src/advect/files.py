"""Files that are whole or absent: atomic writes, checksums, and tensors as safetensors. Never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError, require


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write to a temporary file in the same folder, flush it to disk, and rename it over `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # readable as the umask says
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a write that fails halfway (no space) does not say where
        raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON; a broken file is an InputError that names it."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore it from a copy") from error


def sha256(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically."""
    st = require("safetensors.torch", "io", "saving")
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, st.save(plain, metadata))


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read safetensors; a missing or damaged file is an InputError that names it."""
    st = require("safetensors.torch", "io", "loading")
    if not Path(path).exists():
        raise InputError(f"{path} does not exist")
    try:
        return st.load_file(str(path))
    except Exception as error:  # safetensors raises its own error type from Rust
        raise InputError(f"{path} is damaged: {error}") from error


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """One hex digest of names, types, shapes and bytes: the identity of a set of weights."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(dtype=torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
