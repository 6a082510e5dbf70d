"""`advect.train`: from tensors to a trained Flow in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from advect.codecs import Codec
from advect.conditions import Conditions
from advect.data.base import Data
from advect.errors import expect
from advect.flow import Flow
from advect.networks import NetSpec
from advect.objectives import Objective
from advect.sampler import Sampler
from advect.training.monitor import Monitor
from advect.training.prepare import prepare
from advect.training.running import run_job
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
    sampler: Sampler | None = None,
    others: Mapping[str, Any] | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    stage: str = "train",
    folder: str | os.PathLike[str] | None = None,
    resume: bool = True,
    start_from: str | os.PathLike[str] | Flow | None = None,
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
        codec: Between data and state; one that is fitted on data is fitted here, unless it was.
        conditions: What the network is told; by default all that comes with the data.
        drop: Probability with which all conditions are dropped together, or one per set of names; a network told
            so can be guided.
        sampler: How the Flow is sampled by default.
        others: Further networks by role, as the objective needs them: a network or class, a Flow, or the folder of a
            saved one. Trained ones end in ``flow.others``.
        settings: How it runs.
        seed: Same seed, same numbers.
        stage: Name of this training, part of every seed: two stages of one run draw different numbers.
        folder: Where checkpoints and logs go; None trains in memory.
        resume: Whether a folder that holds a checkpoint is continued.
        start_from: A Flow, or the folder of one or of a run, whose weights are the start.
        monitor: Who watches.
        **overrides: Single settings, like ``steps=2000, lr=3e-4``.

    Returns:
        The Flow, with the averaged weights if there is an average.

    Raises:
        InputError: If an argument does not fit; the sentence names it and the mend. No folder is made then.
    """
    if settings is not None:
        expect("settings", settings, TrainSettings, "TrainSettings(steps=2000)")
    job, config = prepare(
        network,
        data,
        objective=objective,
        transport=transport,
        codec=codec,
        conditions=conditions,
        drop=drop,
        sampler=sampler,
        others=others,
        settings=(TrainSettings() if settings is None else settings).but(**overrides),
        seed=seed,
        stage=stage,
        start_from=start_from,
        monitor=monitor,
    )
    return run_job(job, config, folder, resume=resume)
