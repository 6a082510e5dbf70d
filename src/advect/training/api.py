"""`advect.train`: from tensors to a trained Flow in one call."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from advect.codecs import Codec, Identity
from advect.conditions import Conditions
from advect.data.base import Data
from advect.flow import Flow
from advect.networks import NetSpec
from advect.objectives import FlowMatching, Objective
from advect.training.inputs import as_conditions, as_data, as_network, fit_codec
from advect.training.loop import Job, Trainer
from advect.training.monitor import Monitor
from advect.training.processes import Processes
from advect.training.settings import TrainSettings
from advect.transport import Transport


def train(
    network: nn.Module | Callable[[NetSpec], nn.Module],
    data: Tensor | tuple[Tensor, Any] | Data,
    *,
    objective: Objective | None = None,
    transport: Transport | None = None,
    codec: Codec | None = None,
    conditions: Conditions | None = None,
    drop: float | dict[str, float] | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = True,
    start_from: str | os.PathLike[str] | None = None,
    monitor: Monitor | None = None,
    **overrides: Any,
) -> Flow:
    r"""Train a network to carry the source to the data, and return it as a Flow.

    Args:
        network: A module ``f(x, t, **cond)``, trained in place; or a class or function that makes one from a
            :class:`~advect.NetSpec`, such as ``advect.networks.MLP``.
        data: Samples (N, *shape); or (samples, labels) with integer labels (N,); or (samples, {name: values}); or
            a :class:`~advect.data.Data`.
        objective: What is regressed; flow matching by default.
        transport: Source, coupling and interpolant; Gaussian, independent and straight by default.
        codec: Between data and state; one that is fitted on data is fitted here.
        conditions: What the network is told; by default all that comes with the data.
        drop: Probability with which all conditions are dropped together, or one per set of names; a network told
            so can be guided.
        settings: How it runs.
        seed: Same seed, same numbers.
        folder: Where checkpoints and logs go; None trains in memory.
        resume: Whether a folder that holds a checkpoint is continued.
        start_from: A saved Flow or run folder whose weights are the start.
        monitor: Who watches.
        **overrides: Single settings, like ``steps=2000, lr=3e-4``.

    Returns:
        The Flow, with the averaged weights if there is an average.

    Raises:
        InputError: If an argument does not fit; the sentence names it and the mend.
    """
    settings = (TrainSettings() if settings is None else settings).but(**overrides)
    data = as_data(data)
    objective = FlowMatching() if objective is None else objective
    transport = Transport() if transport is None else transport
    codec = Identity() if codec is None else codec
    conditions = as_conditions(data, conditions, drop)
    fit_codec(codec, data, seed)
    model = as_network(network, data, codec, conditions, objective, seed)
    job = Job(
        {"model": model},
        data,
        objective,
        transport,
        codec,
        conditions,
        settings,
        seed=seed,
        monitor=Monitor() if monitor is None else monitor,
    )
    trainer = Trainer(job, Processes(settings.device))
    trainer.run()
    best = trainer.averages.networks()["model"] if trainer.averages is not None else model.eval()
    return Flow(best, transport, codec, conditions, shape=codec.latent_shape(data.shape))
