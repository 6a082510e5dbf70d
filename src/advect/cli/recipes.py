"""Recipes from YAML: found by file or by the name of a built-in one, with every value open to a dotted option."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from pathlib import Path
from typing import Any

from advect.cli.parsing import instantiate
from advect.errors import InputError, require
from advect.objectives import FlowMatching
from advect.parts import Part, class_path, config_of
from advect.training import Recipe, Train
from advect.transport import Transport

FOLDER = Path(__file__).parents[1] / "recipes"


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with advect, by name."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}


def recipe_file(name: str) -> Path:
    """The file of a recipe: a path, or the name of a built-in recipe.

    Raises:
        InputError: If there is neither; the sentence names near ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    built_in = shipped_recipes()
    stem = path.stem if path.suffix in (".yaml", ".yml") else name
    if stem in built_in and path.parent in (Path(), Path("recipes")):
        return built_in[stem]
    if path.is_dir():
        raise InputError(f"{name} is a folder: with pictures in it, say advect train images --data.path {name}")
    near = difflib.get_close_matches(stem, built_in, 1)
    hint = f"did you mean {near[0]}?" if near else f"the built-in ones are {', '.join(built_in)}"
    raise InputError(f"there is no recipe {name}: {hint}")


def add_recipe(parser: Any) -> None:
    """Add every field of a recipe as an option, and the parts that stand where nothing is given.

    A sampler is none of these: each stage takes what suits the kind of its model, unless one is given.
    """
    parser.add_argument("--recipe", action="config", help="a recipe in YAML; options after it override its values")
    parser.add_class_arguments(Recipe, as_group=False)
    parser.set_defaults(
        {
            "objective": config_of(FlowMatching()),
            "transport": config_of(Transport()),
            "stages": [config_of(Train())],
        }
    )


def build_recipe(parser: Any, namespace: Any) -> Recipe:
    """The recipe that a namespace describes."""
    built = instantiate(parser, namespace)
    fields = {field.name: _plain(built[field.name]) for field in dataclasses.fields(Recipe)}
    return Recipe(**{**fields, "stages": tuple(fields["stages"])})


def as_yaml(recipe: Recipe) -> str:
    """Every value of a recipe, as YAML that `advect train` reads."""
    yaml = require("yaml", "cli", "writing a recipe")
    plain = {field.name: _config(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}
    return yaml.safe_dump(plain, sort_keys=False)


def _config(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return {"class_path": class_path(value.func), "init_args": _config(value.keywords)}  # pyright: ignore
    if isinstance(value, type):
        return {"class_path": class_path(value)}
    if isinstance(value, dict):
        return {name: _config(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_config(item) for item in value]
    if isinstance(value, Part):
        return {"class_path": class_path(type(value)), "init_args": _config(value.init_args())}
    return config_of(value)


def _plain(value: Any) -> Any:
    """jsonargparse wraps a class whose first argument comes later; what stays is the class with its arguments."""
    if isinstance(value, functools.partial):
        cls = next(argument for argument in value.args if isinstance(argument, type))
        return functools.partial(cls, **value.keywords) if value.keywords else cls
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: plain
            for field in dataclasses.fields(value)
            if field.init
            and (plain := _plain(getattr(value, field.name))) is not getattr(value, field.name)
            and isinstance(getattr(value, field.name), (functools.partial, dict, list, tuple))
        }
        return dataclasses.replace(value, **changed) if changed else value
    return value
