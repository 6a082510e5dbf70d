"""Networks: what they are told about the problem, and the seat itself."""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
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
    """A trainable model. The first constructor argument is `spec`; `forward(x, *times, **cond)` gives x's shape.

    One built for two times is a :class:`~advect.fields.FlowMap`: it also has ``velocity(x, t, **cond)``, which is
    u(x, t, t). One built for a single time does not, so that the kind of model can be asked of the instance.

    Every network computes in the type of its weights (or of autocast) and answers in the type of x.
    """

    spec: NetSpec
    buffers_are_weights = True

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        if spec.times == 2:
            self.velocity = types.MethodType(_diagonal, self)

    @abstractmethod
    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Any:
        """Map state and time(s) to a velocity (or what :class:`Prediction` says it is), shape of x.

        Args:
            x: State (B, *spec.shape).
            *times: t for a field; r and t for a flow map, x given at r. Shape () or (B,).
            features: Names out of `feature_names`; the answer is then ``(out, {name: tensor})``.
            **cond: Conditions by name, batch first. One that is not given is null for all.
        """

    def from_field(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a velocity network of the same arguments, as the start of this flow map: u(x, r, t) = v(x, r).

        What a flow map has on top, its embedding of the length t - r, starts as nothing. Weights that are no
        such network's, and those for a field, come back as they are.

        Args:
            state: Weights by name.
        """
        own = self.state_dict() if self.spec.times == 2 else {}
        new = {name: value for name, value in own.items() if name.startswith("embed.times.1.")}
        return new | dict(state)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """What `features=` may ask for."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters()).dtype

    def _check_features(self, features: Collection[str]) -> None:
        for name in features:
            if name not in self.feature_names:
                raise InputError(
                    f"features names {name!r}, which this {type(self).__name__} does not have: "
                    f"choose from {', '.join(self.feature_names)}"
                )


def _diagonal(network: Network, x: Tensor, t: Tensor, **cond: Tensor) -> Any:
    """The velocity of a flow map: u(x, t, t)."""
    return network(x, t, t, **cond)
