"""What a training is given: all parts resolved and known to fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from advect.codecs import Codec
from advect.conditions import Conditions
from advect.data.base import Data
from advect.objectives import Objective
from advect.sampler import Sampler
from advect.training.monitor import Monitor
from advect.training.settings import TrainSettings
from advect.transport import Transport


@dataclass
class Job:
    """What is trained, on what, and how.

    Attributes:
        networks: Trained networks by role, "model" among them; their weights change in place.
        data: Samples of the split "train".
        objective: What is regressed.
        transport: Source, coupling, interpolant.
        codec: Data to state.
        conditions: With their probabilities of being dropped.
        settings: How.
        seed: The seed.
        stage: Name of the stage, part of every seed.
        sampler: How the Flow is sampled.
        frozen: Networks that are called and not trained, by role.
        record: What the Flow says of how it was made.
        monitor: Who watches.
    """

    networks: dict[str, nn.Module]
    data: Data
    objective: Objective
    transport: Transport
    codec: Codec
    conditions: Conditions
    settings: TrainSettings
    seed: int = 0
    stage: str = "train"
    sampler: Sampler | None = None
    frozen: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    monitor: Monitor = field(default_factory=Monitor)
