"""Networks and objective in one module, so that what is wrapped for several processes is all that is trained."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.networks import EtaScore, Prediction
from advect.objectives import Networks, Objective
from advect.transport import Transport


class Outcome(NamedTuple):
    """What one shard gives: the scalar to differentiate, and detached numbers for the log, all on the device."""

    loss: Tensor
    per_sample: Tensor
    t: Tensor | None
    logs: dict[str, Tensor]


class Trained(nn.Module):
    """All that is trained, called once per shard.

    Args:
        networks: Trained networks by role; "model" is among them.
        objective: What is regressed.
        transport: Source, coupling, interpolant.
        frozen: Further networks by role (teachers); no part of this module's parameters.
        averaged: The moving averages by role; no part of this module's parameters.
        autocast: Arithmetic type inside, or None for that of the weights.
        compiled: Whether networks run compiled.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        objective: Objective,
        transport: Transport,
        *,
        frozen: Mapping[str, Callable[..., Any]] | None = None,
        averaged: Mapping[str, nn.Module] | None = None,
        autocast: torch.dtype | None = None,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(dict(networks))
        self.objective = objective
        run: dict[str, Callable[..., Any]] = {
            role: _compiled(net) if compiled else net for role, net in networks.items()
        }
        others = {role: net for role, net in run.items() if role != "model"} | dict(frozen or {})
        # a plain attribute of a plain object: teachers and averages are called, but not registered
        self._nets = Networks(run["model"], (averaged or {}).get("model"), others, transport)
        self._autocast = autocast

    def forward(self, batch: Batch, generator: torch.Generator, turn: str = "model") -> Outcome:
        self._nets.turn = turn
        if self._autocast is None:
            loss = self.objective(self._nets, batch, generator)
        else:
            with torch.autocast(batch.x1.device.type, self._autocast):
                loss = self.objective(self._nets, batch, generator)
        scalar = loss.mean()
        with torch.no_grad():
            per_sample = loss.per_sample.detach()
        return Outcome(scalar, per_sample, loss.t, {name: value.detach() for name, value in loss.logs.items()})


def _compiled(network: nn.Module) -> Callable[..., Any]:
    """The network, compiled. Of a wrapper that objectives ask for more than its call, the network it wears is."""
    if not isinstance(network, (Prediction, EtaScore)):
        return torch.compile(network)
    worn = copy.copy(network)  # its own list of children, the same tensors
    worn._modules = {**network._modules, "network": torch.compile(network.network)}  # pyright: ignore
    return worn


def modules_in(model: Any) -> list[nn.Module]:
    """The model itself, or the modules that a wrapper which is none (guidance) holds."""
    held = [model] if isinstance(model, nn.Module) else vars(model).values() if hasattr(model, "__dict__") else []
    return [value for value in held if isinstance(value, nn.Module)]


@contextlib.contextmanager
def at_rest(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Within, these networks have no dropout and take no gradient; afterwards they are as they were."""
    training = [module for network in networks for module in network.modules() if module.training]
    trainable = [p for network in networks for p in network.parameters() if p.requires_grad]
    for network in networks:
        network.requires_grad_(False).eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trainable:
            parameter.requires_grad_(True)
