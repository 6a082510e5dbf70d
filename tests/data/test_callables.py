"""A user's own code makes the data, from a recipe only."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from advect.data import FromCallable
from advect.errors import InputError
from advect.parts import build, config_of

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from advect.data import Tensors
calls = []
def as_array(n): calls.append(n); return torch.arange(float(n))[:, None]
def as_dict(n): return {"x1": torch.arange(float(n))[:, None], "label": torch.arange(n) % 2}
def as_data(n): return Tensors(torch.arange(float(n))[:, None], validation=0.5)
def as_numpy(n): return torch.arange(float(n))[:, None].numpy()
@dataclass
class Settings:
    n: int
def as_text(n): return "hello"
def wrong_keys(n): return {"x1": torch.zeros(n, 1), "colour": 1}
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """A module in the working folder, which is not on the path of a console script."""
    (tmp_path / "own_data_of_a_user.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    sys.modules.pop("own_data_of_a_user", None)
    return "own_data_of_a_user"


@pytest.mark.parametrize("name", ["as_array", "as_dict", "as_data", "as_numpy"])
@pytest.mark.parametrize("suffix", ["", ".py"])
def test_a_function_may_return_an_array_a_dict_or_data(module, name, suffix):
    made = FromCallable(f"{module}{suffix}:{name}", {"n": 6})
    assert made.size() == (3 if name == "as_data" else 6)
    assert made.size("validation") == (3 if name == "as_data" else 0)
    assert [c.name for c in made.conditions] == (["label"] if name == "as_dict" else [])
    if name != "as_data":
        assert made.batch("train", torch.tensor([4])).x1.tolist() == [[4.0]]


def test_it_is_called_once_at_the_first_use(module):
    made = FromCallable(f"{module}:as_array", {"n": 4})
    assert module not in sys.modules
    for _ in range(3):
        made.batch("train", torch.tensor([0]))
    assert sys.modules[module].calls == [4]


def test_only_a_trusted_config_may_name_code(module):
    config = config_of(FromCallable(f"{module}:as_array", {"n": 4}))
    with pytest.raises(InputError, match=r"FromCallable, which runs code outside advect: .*trust_remote_code"):
        build(config)
    assert build(config, trust_remote_code=True).size() == 4
    assert module in sys.modules


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("as_array", "target is 'as_array': write my_module:make or folder/file.py:make"),
        ("absent_module:make", "target names the module absent_module, which cannot be found from"),
        ("absent.py:make", "target names the file absent.py, which does not exist"),
        ("own_data_of_a_user:absent", "own_data_of_a_user has no function 'absent'"),
        ("own_data_of_a_user:number", "own_data_of_a_user has no function 'number'"),
        ("own_data_of_a_user:as_text", "returned a str: return a Data, an array, or a dict"),
        ("own_data_of_a_user:wrong_keys", "returned a dict with keys ['colour', 'x1']"),
    ],
)
def test_what_cannot_be_called_is_named(module, target, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        FromCallable(target, {"n": 4}).size()


def test_an_import_error_inside_the_users_module_is_theirs(module, tmp_path):
    (tmp_path / "needs_more.py").write_text("import absent_library_of_a_user\n")
    with pytest.raises(ModuleNotFoundError, match="absent_library_of_a_user"):
        FromCallable("needs_more:make").size()
