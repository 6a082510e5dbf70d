"""Data made by a user's own code."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from advect.batch import Batch
from advect.conditions import Condition
from advect.data.base import Data, Split
from advect.data.tensors import Tensors
from advect.errors import InputError, MissingExtra


@dataclass(frozen=True)
class FromCallable(Data):
    """What ``make(**kwargs)`` returns: a Data, the array x1, or a dict of the arguments of :class:`Tensors`.

    This runs code that the recipe names, so only a recipe may ask for it: :func:`advect.parts.build` refuses it in a
    checkpoint that is not trusted.

    Args:
        target: ``my_module:make`` (found from the working folder too) or ``folder/file.py:make``.
        kwargs: Plain values passed on to it.
    """

    runs_foreign_code = True

    target: str
    kwargs: dict[str, Any] = field(default_factory=dict, hash=False)

    @cached_property
    def made(self) -> Data:
        """The data behind it, made at the first use."""
        make = _find(self.target)
        try:
            made = make(**self.kwargs)
        except (InputError, MissingExtra):
            raise
        except Exception as error:  # of code that is not ours
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"{self.target} raised {type(error).__name__}: {' '.join(str(error).split())} "
                f"({last.filename}, line {last.lineno}): mend it there"
            ) from error
        if isinstance(made, Data):
            return made
        if isinstance(made, Mapping):
            try:
                return Tensors(**made)
            except TypeError as error:
                raise InputError(f"{self.target} returned a dict with keys {sorted(made)}: {error}") from error
        if isinstance(made, Tensor) or hasattr(made, "__array__"):
            return Tensors(made)
        raise InputError(
            f"{self.target} returned a {type(made).__name__}: return a Data, an array, or a dict of 'x1', 'label' ..."
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.made.shape

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self.made.conditions

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.made.class_names

    @property
    def kind(self) -> Literal["image", "array"]:
        return self.made.kind

    def size(self, split: Split = "train") -> int:
        return self.made.size(split)

    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return self.made.batch(split, index, generator)


def _find(target: str) -> Callable[..., Any]:
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"target is {target!r}: write my_module:make or folder/file.py:make")
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise InputError(f"target names the file {place}, which does not exist")
        spec = importlib.util.spec_from_file_location(f"_named_by_recipe_{Path(place).stem}", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses in it look themselves up here
        spec.loader.exec_module(module)
    else:
        if os.getcwd() not in sys.path:  # a console script, unlike `python -m`, does not look here
            sys.path.append(os.getcwd())
        try:
            module = importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not place.startswith(error.name):
                raise
            raise InputError(f"target names the module {place}, which cannot be found from {os.getcwd()}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise InputError(f"{place} has no function {name!r}")
    return found
