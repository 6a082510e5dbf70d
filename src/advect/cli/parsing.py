"""Parsers from signatures, and their errors as one sentence that names the key and the nearest one that exists."""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from advect.errors import InputError, require
from advect.parts import Part


def new_parser(command: str, description: str) -> Any:
    """A parser that raises instead of exiting, and reads nothing from the environment."""
    jsonargparse = require("jsonargparse", "cli", "the command line")
    return jsonargparse.ArgumentParser(
        prog=f"advect {command}", description=description, exit_on_error=False, default_env=False
    )


def parse(parser: Any, arguments: Sequence[str]) -> Any:
    """Parse; what the user got wrong becomes an InputError of one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of jsonargparse, about its own future
            return parser.parse_args([_underscored(argument, parser) for argument in arguments])
    except (argparse.ArgumentError, argparse.ArgumentTypeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(sentence(str(error), option_names(parser))) from error


def instantiate(parser: Any, namespace: Any) -> Any:
    """Build the parts that a namespace describes; a part that refuses its arguments has the last word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parser.instantiate(namespace)


def option_names(parser: Any) -> list[str]:
    """The options of a parser, dotted, without dashes."""
    return [o.lstrip("-") for action in parser._actions for o in action.option_strings if o.startswith("--")]


def sentence(message: str, known: Iterable[str] = ()) -> str:
    """Boil down a nested message of jsonargparse to one sentence with a mend."""
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    if match := re.search(r"unrecognized arguments: (?:--)?([\w.+-]+)", message, re.IGNORECASE):
        return f"there is no option --{match[1]}{_near_option(match[1], known)}"
    if "Problems parsing config" in message:
        place = re.search(r"line \d+, column \d+", message)
        return f"the recipe is not valid YAML{' (' + place[0] + ')' if place else ''}: mend it there"
    if match := re.search(r"(?:Option|Key) '([\w.]+)' is not (?:accepted|expected)", message):
        unknown, owner = match[1], _class_in(message)
        if owner is None:
            head = unknown.partition(".")[0]
            return f"there is no key {head!r}{_near(head, {name.partition('.')[0] for name in known})}"
        where = f"{key}.{unknown}" if key else unknown
        if unknown == "spec":
            return f"{where} cannot be given: the network's shape and conditions are derived from the data"
        return f"{owner.__name__} has no argument {unknown!r} (key {where}){_near(unknown, _arguments(owner))}"
    if match := re.search(r"Expected a dot import path string: (\S+)", message):
        return f"{key} is {match[1]}, which is no class known there{_near(match[1], _short_names(key, message))}"
    if match := re.search(r"arguments are required: ([\w., ]+)", message):
        return f"{match[1]} is missing: give it in the recipe or as an option"
    if match := re.search(r"Expected a <class '([\w.]+)'>\. Got value: (.*)", message):
        return f"{key} is {match[2].strip()}, and should be {_kind(match[1])}"
    if "is abstract" in message and key:
        return f"{key} needs a class: name one as --{key} CLASS, and its arguments after it (--{key}.help CLASS)"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(("Parser key", "Problem with", "Subtypes:", "Errors:"))]
    text = " ".join((useful or lines)[:2])
    return f"{key}: {text}" if key and key not in text else text


def _underscored(argument: str, parser: Any) -> str:
    """Accept --batch-size for --batch_size."""
    name, equals, value = argument.partition("=")
    spelled = "--" + name.lstrip("-").replace("-", "_")
    if (
        name.startswith("--")
        and name.lstrip("-") not in (names := option_names(parser))
        and spelled.lstrip("-") in names
    ):
        return spelled + equals + value
    return argument


def _near(name: str, known: Iterable[str], prefix: str = "") -> str:
    known = sorted(set(known))
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(folded), 2, 0.55)
    if close:
        return f": did you mean {' or '.join(prefix + folded[c] for c in close)}?"
    return f": there are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _near_option(name: str, known: Iterable[str]) -> str:
    """The nearest option; of a dotted one the first word is mended, since what follows belongs to a class."""
    known = list(known)
    head, dot, rest = name.partition(".")
    heads = {option.partition(".")[0] for option in known}
    if dot and head not in heads and (close := difflib.get_close_matches(head, sorted(heads), 1, 0.55)):
        return f": did you mean --{close[0]}.{rest}?"
    return _near(name, known, "--")


def _kind(name: str) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}.get(name, name)


def _class_in(message: str) -> type | None:
    """The class that refused an argument: the innermost one that the message names."""
    found = re.findall(r"(?:Problem with given class_path |class_path=)'([\w.]+)'", message)
    if not found:
        return None
    module, _, name = found[-1].rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None


def _arguments(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "spec"]


def _short_names(key: str, message: str) -> list[str]:
    """Names of the parts that could stand at a key: final classes of advect whose room has the key's name, or all."""
    finals = [cls for cls in _all_parts(Part) if not inspect.isabstract(cls)]
    last = key.rpartition(".")[2]
    near = [cls.__name__ for cls in finals if last in cls.__module__]
    return near or [cls.__name__ for cls in finals]


def _all_parts(cls: type) -> list[type]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_all_parts(sub))]
