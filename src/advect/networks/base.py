"""Networks: what they are told about the problem, and the seat itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from advect.conditions import Condition
from advect.errors import InputError
from advect.parts import ModulePart, Part


@dataclass(frozen=True)
class NetSpec(Part):
    """What a network is built for; derived from data and codec, never typed into a recipe.

    Args:
        shape: Shape of the state without batch.
        conditions: Conditions it is told.
        times: 1 for a field f(x, t), 2 for a flow map f(x, r, t).
    """

    shape: tuple[int, ...]
    conditions: tuple[Condition, ...] = ()
    times: int = 1

    def __post_init__(self) -> None:
        if not self.shape or any(n < 1 for n in self.shape):
            raise InputError(f"shape is {self.shape}: it is the shape of one sample, like (2,) or (3, 32, 32)")
        if self.times not in (1, 2):
            raise InputError(f"times is {self.times}: 1 for a field, 2 for a flow map")


class Network(ModulePart, ABC):
    """A trainable model. The first constructor argument is `spec`; `forward(x, *times, **cond)` gives x's shape."""

    spec: NetSpec

    @abstractmethod
    def forward(self, x: Tensor, *times: Tensor, **cond: Tensor) -> Any:
        """Map state and time(s) to a velocity (or what :class:`Prediction` says it is), shape of x."""
