"""Every kind of data can be named in a recipe by its short name, with checked types."""

from __future__ import annotations

from typing import Any

import pytest
from jsonargparse import ArgumentParser

from advect import data
from advect.data import Data

KINDS = [
    name
    for name in data.__all__
    if isinstance(kind := getattr(data, name), type) and issubclass(kind, Data) and not kind.__abstractmethods__
]


def parsed(*arguments: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(Data, "data")
    return parser.instantiate(parser.parse_args(list(arguments))).data


@pytest.mark.parametrize("name", [name for name in KINDS if name != "Tensors"])
def test_types_of_all_arguments_are_known_to_the_command_line(name, capsys):
    parser = ArgumentParser()
    parser.add_subclass_arguments(Data, "data")
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--data.help", name])
    assert stop.value.code == 0
    assert "Unvalidated" not in capsys.readouterr().out


def test_options_lists_and_nesting(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "data:\n  class_path: HorizontalFlip\n  init_args:\n    data:\n      class_path: ImageFolder\n"
        "      init_args: {path: photos, resolution: [32, 48], validation: 0.2}\n"
    )
    folder = data.ImageFolder("photos", (32, 48), validation=0.2)
    assert parsed("--config", str(recipe)) == data.HorizontalFlip(folder)
    given = parsed("--config", str(recipe), "--data.data.resolution", "64", "--data.probability", "0.25")
    assert given == data.HorizontalFlip(data.ImageFolder("photos", 64, validation=0.2), 0.25)
    assert parsed("--data", "TwoDomains", "--data.a", "Digits", "--data.b", "Emoji") == data.TwoDomains(
        data.Digits(), data.Emoji()
    )
    called = parsed("--data", "FromCallable", "--data.target", "own:make", "--data.kwargs", '{"n": 3}')
    assert called == data.FromCallable("own:make", {"n": 3})


def test_a_wrong_type_is_refused():
    with pytest.raises(Exception, match="resolution"):
        parsed("--data", "ImageFolder", "--data.path", "photos", "--data.resolution", "large")
