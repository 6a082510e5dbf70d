"""What a run is, in plain values: written beside its results, and compared when it is resumed."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from torch import nn

from advect.errors import InputError
from advect.guidance import Guided
from advect.parts import Part, class_path, config_of

FREE = frozenset(
    f"settings.{name}"
    for name in ("checkpoint_every", "keep_last", "tensorboard", "wandb", "device", "prefetch", "compile")
)
"""Where and how fast a run goes, and what it keeps: a resume may change these."""


SHOWN = 8
"""Keys that a refusal names at most."""


def describe(value: Any) -> Any:
    """The config of a part; of anything else, what can be said about it without keeping it."""
    if isinstance(value, nn.Module) and not isinstance(value, Part):
        shapes = [f"{name}{tuple(p.shape)}" for name, p in value.named_parameters()]
        return {"foreign": type(value).__qualname__, "shapes": hashlib.sha256(repr(shapes).encode()).hexdigest()}
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, functools.partial):
        return {"callable": describe(value.func)["callable"], "arguments": describe(value.keywords)}
    if isinstance(value, Guided):
        return {"callable": class_path(Guided), "rules": config_of(value.rules)}
    if callable(value) and not isinstance(value, Part):
        return {
            "callable": f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"
        }
    return config_of(value)


def refuse_changes(before: dict[str, Any], now: dict[str, Any], folder: Any) -> None:
    """Refuse to resume what is not the same run.

    More steps are the same run where the rate does not depend on their number (schedule "constant").

    Raises:
        InputError: With the keys that differ, the first eight at most, their values in the folder and those given.
    """
    old, new = _flat(before), _flat(now)
    free = FREE | ({"settings.steps"} if new.get("settings.schedule") == "constant" else frozenset())
    differing = [
        key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and not _is_free(key, free)
    ]
    if differing:
        changes = ", ".join(
            f"{key} ({old.get(key, 'absent')} -> {new.get(key, 'absent')})" for key in differing[:SHOWN]
        )
        if len(differing) > SHOWN:  # a wholly different run: who reads fifty values
            changes += f" and {len(differing) - SHOWN} more"
        raise InputError(
            f"{folder} holds a run with other values of {changes}: give the old ones to resume, or another folder"
        )


def _is_free(key: str, free: frozenset[str]) -> bool:
    return any(key == name or key.endswith("." + name) for name in free)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        if set(value) == {"class_path", "init_args"}:
            return {prefix: value["class_path"]} | _flat(value["init_args"], prefix)
        out: dict[str, Any] = {}
        for key, item in value.items():
            out |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
        return out
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return _flat({str(place): item for place, item in enumerate(value)}, prefix)
    return {prefix: value}
