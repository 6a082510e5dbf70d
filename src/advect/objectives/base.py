"""The seat "what is regressed": objectives, their losses, and the networks they are handed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from advect.batch import Batch
from advect.parts import ModulePart
from advect.transport import Transport


class Loss:
    """A loss per sample, reduced only when asked.

    Args:
        residual: prediction - target, shape (B, *shape); the loss per sample is the mean of its square.
        weight: Weight per sample (B,), or None.
        t: Times (B,), for the logs per time bin.
        logs: Detached scalars by name, kept on the device.
        per_sample: The loss per sample itself, where it is no mean square; then `residual` is None.
    """

    __slots__ = ("_per_sample", "logs", "residual", "t", "weight")

    def __init__(
        self,
        residual: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        t: Tensor | None = None,
        logs: Mapping[str, Tensor] | None = None,
        per_sample: Tensor | None = None,
    ) -> None:
        self.residual, self.weight, self.t = residual, weight, t
        self.logs: dict[str, Tensor] = dict(logs or {})
        self._per_sample = per_sample

    @property
    def per_sample(self) -> Tensor:
        """Weighted loss per sample, shape (B,)."""
        if self._per_sample is None:
            assert self.residual is not None
            plain = self.residual.square().flatten(1).mean(1) if self.residual.ndim > 1 else self.residual.square()
            self._per_sample = plain if self.weight is None else self.weight * plain
        return self._per_sample

    def mean(self) -> Tensor:
        """The scalar to differentiate; without weights it is one fused reduction over all coordinates."""
        if self._per_sample is None and self.weight is None and self.residual is not None:
            return self.residual.square().mean()
        return self.per_sample.mean()


@dataclass
class Networks:
    """The networks an objective is handed, by role.

    Attributes:
        model: The trained network.
        ema: Its moving average, where the objective asks for it.
        others: Further networks by role ("teacher", "score", ...).
        transport: Source, coupling and interpolant.
        turn: Which parameter group is trained in this step.
    """

    model: Callable[..., Any]
    ema: Callable[..., Any] | None = None
    others: dict[str, Callable[..., Any]] = field(default_factory=dict)
    transport: Transport = field(default_factory=Transport)
    turn: str = "model"

    def __getitem__(self, role: str) -> Callable[..., Any]:
        return self.model if role == "model" else self.others[role]


_plain_transport = Transport()


class Objective(ModulePart, ABC):
    """A regression that trains the networks of its roles.

    `needs` names further networks by role and kind, for example ``{"teacher": "field"}`` (frozen) or
    ``{"score": "trained field"}``; `model` is always there.
    """

    needs: ClassVar[dict[str, str]] = {}

    def forward(
        self,
        nets: Networks | Callable[..., Any],
        batch: Batch | Tensor,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """The loss on one batch.

        Args:
            nets: The networks by role, or just one callable ``f(x, t, **cond)``.
            batch: The batch, or just the data x1 (B, *shape).
            generator: Feeds every draw.
        """
        if not isinstance(nets, Networks):
            nets = Networks(nets, transport=_plain_transport)
        if isinstance(batch, Tensor):
            batch = Batch(batch)
        if batch.x0 is None:
            batch = nets.transport.pair(batch, generator)
        return self.loss(nets, batch, generator)

    @abstractmethod
    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        """The loss on a paired batch (x0 is there)."""
