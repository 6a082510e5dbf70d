"""Errors that a user can cause and mend: one sentence that names the argument, its value and the mend."""

from __future__ import annotations

import importlib
from types import ModuleType


class InputError(ValueError):
    """A value, file or recipe key that cannot be used; the command line prints it and exits with code 2."""


def expect(name: str, value: object, kind: type, like: str) -> None:
    """Refuse what stands in the place of a part: its name, its class, a number.

    Args:
        name: The argument.
        value: What was given.
        kind: What belongs there.
        like: An example of it.

    Raises:
        InputError: If `value` is none.
    """
    if not isinstance(value, kind):
        said = f"the class {value.__name__}" if isinstance(value, type) else f"{value!r:.80}"
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise InputError(f"{name} is {said}: give {article} {kind.__name__}, like {like}")


class MissingExtra(ImportError):
    """An optional library is not installed; the message says which extra brings it."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional library where it is used.

    Args:
        module: Import name, for example ``"ot"``.
        extra: The extra of advect that installs it, for example ``"ot"``.
        purpose: What it is needed for, as the subject of "needs": ``"exact transport in 2-D"``.

    Raises:
        MissingExtra: If the import fails; the message is one sentence with the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        raise MissingExtra(
            f"{purpose} needs the package that provides '{root}' ({error}): pip install 'advect[{extra}]'"
        ) from error
