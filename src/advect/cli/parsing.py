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

_NOISE = ("Parser key", "Problem with", "Subtypes:", "Errors:", "Given value", "Does not validate against")


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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", category=UserWarning, module=r"advect\b")  # what parts say
            return parser.instantiate(namespace)
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(sentence(str(error), option_names(parser))) from error


def option_names(parser: Any) -> list[str]:
    """The options of a parser, dotted, without dashes."""
    return [o.lstrip("-") for action in parser._actions for o in action.option_strings if o.startswith("--")]


def sentence(message: str, known: Iterable[str] = ()) -> str:
    """Boil down a nested message of jsonargparse to one sentence with a mend."""
    known = list(known)
    key = _key_in(message)
    if match := re.search(r"unrecognized arguments: (\S+)", message, re.IGNORECASE):
        if not match[1].startswith("-"):
            return f"{match[1]!r} is one argument too many: an option begins with --"
        name = match[1].lstrip("-").partition("=")[0]
        return f"there is no option --{name}{_near_option(name, known)}"
    if match := re.search(r"ambiguous option: (\S+) could match (.*)", message):
        options = dict.fromkeys(re.sub(r"(\.help|\+)$", "", option) for option in match[2].split(", "))
        return f"there is no option {match[1]}: did you mean {' or '.join(options)}?"
    if "Problems parsing config" in message:
        place = re.search(r"line \d+, column \d+", message)
        return f"the recipe is not valid YAML{' (' + place[0] + ')' if place else ''}: mend it there"
    if "Unexpected config" in message:
        return "the recipe holds no keys: give it at least data and network"
    if match := re.search(r"(?:Option|Key) '([\w.]+)' is not (?:accepted|expected)", message):
        unknown, owner = match[1], _class_in(message)
        if owner is None:
            head = unknown.partition(".")[0]
            return f"there is no key {head!r}{_near(head, {name.partition('.')[0] for name in known})}"
        where = f"{key}.{unknown}" if key else unknown
        if unknown == "spec":
            return f"{where} cannot be given: the network's shape and conditions are derived from the data"
        first = unknown.partition(".")[0]  # of a dict in the place of an argument that is not there, every key is named
        return f"{owner.__name__} has no argument {first!r} (key {where}){_near(first, _arguments(owner))}"
    if key and (match := re.search(r"Unexpected import path format: (\d+\.\S+)", message)):
        return f"{key} is a list, whose entries have no options ({key}.{match[1]}): change a copy of the recipe"
    if match := re.search(r"Expected a dot import path string: (\S+)", message):
        named = f"{key} is {match[1]}, which" if key else match[1]
        return f"{named} is no class known there{_near(match[1], _short_names(key))}"
    if match := re.search(r"arguments are required: ([\w., ]+)", message):
        if not key and match[1] not in known and "," not in match[1]:
            return f"{match[1]} is missing: name it after the command"
        names = [f"{key}.{name}" if key else name for name in match[1].split(", ")]
        what = f"{' and '.join(names)} {'are' if names[1:] else 'is'} missing"
        if "recipe" not in known:
            return f"{what}: give --{names[0]}"
        it, here = ("them", " --".join(names)) if names[1:] else ("it", names[0])
        return f"{what}: give {it} in your recipe or as --{here}, or name a recipe that ships (advect train digits)"
    if "is abstract" in message and key:
        return f"{key} needs a class: name one as --{key} CLASS, and its arguments after it (--{key}.help CLASS)"
    given = re.search(r"(?:Got|Given) value: (.*?)(?:\. Got value: .*)?$", message, re.MULTILINE)
    named = given or re.search(r"Import path (\S+) does not", message)
    what = f"{key} is {named[1].strip()}" if named else key
    if match := re.search(r"Expected a typing\.Literal\[([^\]]*)\]", message):
        return f"{what}: choose from {match[1].replace(chr(39), '')}"
    if match := re.search(r"[Ii]mport path.* does not correspond to a subclass of (\w+)", message):
        return f"{what}, which is no {match[1]}: name a class of that kind"
    if match := re.search(r"expects a function or a callable class: (.*)\. Got value: (\S+)$", message):
        return f"{key} is {match[2]}, which cannot be imported ({match[1]}): check its path"
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(_NOISE)]
    expected = [found[1] for line in useful if (found := re.match(r"Expected a <class '([\w.]+)'>", line))]
    expected += re.findall(r": Expected a <class '([\w.]+)'>", message)
    said = [line for line in useful if "Expected a <class" not in line and not line.startswith("Type ")]
    if expected and not said:
        kinds = dict.fromkeys(_kind(name) for name in expected if name != "NoneType")
        return f"{what}, and should be {' or '.join(kinds)}"
    text = " ".join((said or lines)[:2])
    return f"{key}: {text}" if key and key not in text else text


def _key_in(message: str) -> str:
    """The key that a nested message is about: each deeper line adds to it, and a second try of a union does not."""
    keys, deepest = [], -1
    for found in re.finditer(r'^(.*?)Parser key "([^"]+)"', message, re.MULTILINE):
        if len(found[1]) > deepest:
            deepest = len(found[1])
            keys.append(found[2])
    return ".".join(keys)


def _underscored(argument: str, parser: Any) -> str:
    """Accept --batch-size for --batch_size, and -n for --n."""
    if argument == "-n" and not any("-n" in action.option_strings for action in parser._actions):
        return "--n"
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
    lists, names = "a list, like [a, b]", "names with values, like {a: 1}"
    plain = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    return (plain | {"list": lists, "tuple": lists, "dict": names}).get(name, name)


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


def _short_names(key: str) -> list[str]:
    """Names of the parts that could stand at a key: final classes of advect whose room has the key's name, or all."""
    finals = [cls for cls in _all_parts(Part) if not inspect.isabstract(cls)]
    last = key.rpartition(".")[2]
    near = [cls.__name__ for cls in finals if last in cls.__module__]
    return near or [cls.__name__ for cls in finals]


def _all_parts(cls: type) -> list[type]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_all_parts(sub))]
