"""The seat "what is regressed": objectives, their losses, and the networks they are handed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.errors import InputError
from advect.parts import ModulePart
from advect.transport import Transport

# The operator behind torch.nn.functional.mse_loss; the function's own checks cost as much again for small batches.
_mean_square = torch.ops.aten.mse_loss.default


class Loss:
    """A loss per sample, reduced only when asked.

    Args:
        prediction: What the network said, shape (copies * B, *shape); without a `target` it is a residual.
        target: What it should have said, the same shape; the loss per sample is the mean squared difference.
        weight: Weight per sample (B,), or None.
        t: Times (B,), for the logs per time bin.
        logs: Scalars by name, or a number per sample (B,), of which mean and variance are logged; kept on the device.
        per_sample: The weighted loss per sample itself, where it is no mean square; then `prediction` is None.
        copies: Evaluations per sample, one after the other as whole batches (an antithetic pair has 2).

    Raises:
        InputError: If prediction and target differ in shape, which would broadcast silently and wrongly.
    """

    __slots__ = ("_per_sample", "_terms", "copies", "logs", "prediction", "t", "target", "weight")

    def __init__(
        self,
        prediction: Tensor | None = None,
        target: Tensor | None = None,
        *,
        weight: Tensor | None = None,
        t: Tensor | None = None,
        logs: Mapping[str, Tensor] | None = None,
        per_sample: Tensor | None = None,
        copies: int = 1,
    ) -> None:
        if prediction is not None and target is not None and prediction.shape != target.shape:
            raise InputError(
                f"the network gave shape {tuple(prediction.shape)} where the target has shape {tuple(target.shape)}: "
                "its output has the shape of its input x"
            )
        self.prediction, self.target, self.weight, self.t, self.copies = prediction, target, weight, t, copies
        self.logs: dict[str, Tensor] = {} if logs is None else dict(logs)
        self._per_sample = per_sample
        self._terms: Tensor | None = None

    @property
    def per_sample(self) -> Tensor:
        """Weighted loss per sample, shape (B,)."""
        if self._per_sample is not None:
            return self._per_sample
        terms = self._squares(self.weight) if self._terms is None else self._terms
        rows = terms.shape[0] // self.copies
        terms = terms.reshape(self.copies, rows, -1)
        return terms.mean((0, 2)) if self._terms is None else terms.sum((0, 2)) * rows

    def mean(self) -> Tensor:
        """The scalar to differentiate; without weights one fused operation, forwards and backwards."""
        if self._per_sample is not None:
            return self._per_sample.mean()
        assert self.prediction is not None
        if self.weight is not None:  # weights divided beforehand: the mean's own division is a pass over all squares
            self._terms = self._squares(self.weight / self.prediction.numel())
            return self._terms.sum()
        if self.target is None:
            return self.prediction.square().mean()
        return _mean_square(self.prediction, self.target)

    def _squares(self, weight: Tensor | None) -> Tensor:
        """Weighted squared difference of every coordinate, shape of the prediction."""
        assert self.prediction is not None
        x = self.prediction
        squares = x.square() if self.target is None else _mean_square(x, self.target, 0)
        if weight is None:
            return squares
        weight = weight if self.copies == 1 else weight.repeat(self.copies)
        return squares * weight.view(-1, *[1] * (x.ndim - 1))


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

    def refusal(self, transport: Transport) -> str | None:
        """None if `model` learns what a Flow integrates, a velocity or a flow map; else the sentence that says why not.

        :func:`advect.train` asks before it trains. As a loss in a loop of one's own any objective will do.
        """
        return None

    def dressed(self, role: str, network: nn.Module, transport: Transport) -> nn.Module:
        """The network of a role as a Flow keeps it: wrapped, where its output is not yet what the role stands for."""
        return network

    def forward(
        self,
        nets: Networks | Callable[..., Any],
        batch: Batch | Tensor,
        generator: torch.Generator | None = None,
    ) -> Loss:
        """The loss on one batch; of a weighted one the weights are logged.

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
        loss = self.loss(nets, batch, generator)
        if batch.weight is not None:
            loss.logs["weight"] = batch.weight
        return loss

    @abstractmethod
    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        """The loss on a paired batch (x0 is there)."""
