"""One bare training step, to be timed: what a coupling or an objective costs beside another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.objectives.base import Networks, Objective
from advect.randomness import generator
from advect.transport import Transport


def training_step(
    network: nn.Module, objective: Objective, transport: Transport, x1: Tensor, batch_size: int | None = None
) -> Callable[[], None]:
    """A step of pairing, loss, gradient and update by Adam, without the trainer's logs, averages and checkpoints.

    Args:
        network: What is trained, in place.
        objective: What is regressed.
        transport: Source, coupling, interpolant.
        x1: Data (N, *shape).
        batch_size: Samples drawn anew for every step; None takes all of x1.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    nets, draws = Networks(network, transport=transport), generator(0, "steps")

    def step() -> None:
        few = x1 if batch_size is None else x1[torch.randint(len(x1), (batch_size,), generator=draws)]
        optimiser.zero_grad()
        objective(nets, transport.pair(Batch(few), draws), draws).mean().backward()
        optimiser.step()

    return step
