"""A part knows its arguments; only parts of advect are built from a config unless the caller trusts others."""

import copy
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from advect import InputError, Sampler, Transport
from advect.conditions import ClassLabel, Conditions
from advect.interpolants import Linear
from advect.networks import MLP, NetSpec
from advect.parts import ModulePart, Part, build, config_of
from advect.solvers import Heun
from advect.sources import Gaussian
from advect.times import TimeGrid


@dataclass(frozen=True)
class Foreign(Part):
    """A part of somebody else."""

    value: int = 1


class Outer(ModulePart):
    def __init__(self, width: int = 3, shape: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)


class Inner(Outer):
    def __init__(self, depth: int) -> None:
        super().__init__(width=depth * 2)


PARTS = [
    Linear(),
    Gaussian(2.0, mean=-1.0),
    Sampler(Heun(), TimeGrid(7), Gaussian(0.5)),
    Conditions((ClassLabel(10), ClassLabel(3, "style")), {"label": 0.1, "label,style": 0.2}),
    NetSpec((3, 8, 8), (ClassLabel(4),), times=2),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda p: type(p).__name__)
def test_a_part_without_tensors_is_rebuilt_equal(part: Part) -> None:
    assert build(config_of(part)) == part


def test_a_network_is_rebuilt_with_the_same_arguments_also_after_deepcopy() -> None:
    net = MLP(NetSpec((2,)), hidden=(16, 16))
    again = build(config_of(copy.deepcopy(net)))
    assert again.spec.shape == (2,)
    again.load_state_dict(net.state_dict())
    x, t = torch.randn(4, 2), torch.rand(4)
    torch.testing.assert_close(again(x, t), net(x, t), rtol=0, atol=0)


def test_the_outermost_class_records_its_arguments() -> None:
    assert Inner(4).init_args() == {"depth": 4}
    assert Outer(shape=(5,)).init_args() == {"width": 3, "shape": (5,)}


def test_tuples_come_back_as_tuples() -> None:
    config = config_of(NetSpec((2, 3)))
    assert config["init_args"]["shape"] == [2, 3]
    assert build(config).shape == (2, 3)


def test_a_class_outside_advect_is_refused_and_its_module_not_imported() -> None:
    config = {"class_path": "this_module_must_not_be_imported.Thing", "init_args": {}}
    with pytest.raises(InputError, match=r"outside advect.*trust_remote_code=True"):
        build(config)
    assert "this_module_must_not_be_imported" not in sys.modules
    assert build(config_of(Foreign(3)), trust_remote_code=True) == Foreign(3)
    with pytest.raises(InputError, match="outside advect"):
        build(config_of(Foreign(3)))


@pytest.mark.parametrize("path", ["advect.parts.importlib", "advect.errors.InputError", "advect.parts.build", "advect"])
def test_what_is_not_a_part_is_refused(path: str) -> None:
    with pytest.raises(InputError):
        build({"class_path": path, "init_args": {}})


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(InputError, match="does not take these arguments"):
        build({"class_path": "advect.sources.Gaussian", "init_args": {"sigma": 1.0}})


def test_a_tensor_cannot_stand_in_a_config() -> None:
    with pytest.raises(TypeError, match="plain values"):
        config_of({"x": torch.ones(2)})


def test_class_path_is_the_public_name_and_does_not_depend_on_what_was_imported() -> None:
    assert config_of(Transport())["class_path"] == "advect.Transport"
    assert config_of(Heun())["class_path"] == "advect.solvers.Heun"
