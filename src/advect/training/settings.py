"""How a training runs: every number of it, in one place."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from advect.errors import InputError
from advect.parts import Part
from advect.training.ema import EMA, PowerEMA


@dataclass(frozen=True)
class Group(Part):
    """What one role's parameters do otherwise than the rest; two groups that take turns are two optimisers.

    Args:
        lr: Learning rate; None takes the settings'.
        clip: Largest gradient norm; None takes the settings'.
        every: Train this role in one of `every` steps.
        offset: In which of them, in [0, every).
    """

    lr: float | None = None
    clip: float | None = None
    every: int = 1
    offset: int = 0

    def __post_init__(self) -> None:
        if self.every < 1 or not 0 <= self.offset < self.every:
            raise InputError(
                f"every={self.every}, offset={self.offset}: a group needs every >= 1 and 0 <= offset < every"
            )

    def active(self, step: int) -> bool:
        """Whether this group is trained in this step."""
        return step % self.every == self.offset


@dataclass(frozen=True)
class TrainSettings(Part):
    """Settings of a training.

    Args:
        steps: Optimiser steps.
        batch_size: Samples per step, over all processes and micro-batches together.
        lr: Peak learning rate.
        optimizer: Rule of the update.
        betas: Decay of the first and second moment (adam, adamw); the first is sgd's momentum.
        weight_decay: Decay of weight matrices, decoupled from the gradient by adamw and added to it by adam and sgd;
            vectors (biases, norms) are left alone.
        warmup: Steps over which the rate rises linearly from 0.
        schedule: Rate after the warm-up: constant, or a half cosine down to 0 at the last step.
        clip: Largest gradient norm; None for no clipping.
        accumulate: Micro-batches per process and step; each runs forward and backward by itself.
        precision: Type of the networks' arithmetic: bf16 is autocast over float32 weights.
        compile: Compile the networks (`torch.compile`): slow first step, faster ones after.
        ema: Moving average of the weights, which becomes the weights of the Flow; None for none.
        groups: Own rate, clip and turns by role.
        shards: Parts into which a global batch is cut, each with its own random numbers; None for processes x
            accumulate at the start. Kept in the run, so that another number of processes continues with the same
            numbers.
        log_every: Steps per row of the log.
        time_bins: Bins of t in [0, 1] in which the loss is logged.
        sample_every: Steps between sample grids and sample distances (in a folder); None for none.
        sample_count: Samples per grid and distance.
        checkpoint_every: Steps between checkpoints (in a folder); None for only the last.
        keep_last: Checkpoints kept.
        tensorboard: Write TensorBoard files too; None writes them if tensorboard is installed.
        wandb: Project of Weights & Biases to log to; None for none.
        device: "auto" takes a GPU if there is one; else a device by name.
        prefetch: Worker threads that load and pair the next batches; None takes one or two where pairing or loading
            is slow.
    """

    steps: int = 10_000
    batch_size: int = 256
    lr: float = 1e-3
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 100
    schedule: Literal["constant", "cosine"] = "cosine"
    clip: float | None = 1.0
    accumulate: int = 1
    precision: Literal["float32", "bf16", "float64"] = "float32"
    compile: bool = False
    ema: EMA | None = PowerEMA()
    groups: dict[str, Group] = field(default_factory=dict)
    shards: int | None = None
    log_every: int = 50
    time_bins: int = 10
    sample_every: int | None = None
    sample_count: int = 64
    checkpoint_every: int | None = 1000
    keep_last: int = 2
    tensorboard: bool | None = None
    wandb: str | None = None
    device: str = "auto"
    prefetch: int | None = None

    def __post_init__(self) -> None:
        at_least_one = ("steps", "batch_size", "accumulate", "log_every", "time_bins", "sample_count", "keep_last")
        maybe_none = ("shards", "sample_every", "checkpoint_every")
        for name in (*at_least_one, *(name for name in maybe_none if getattr(self, name) is not None)):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: give a whole number of at least 1")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}: give a finite number above 0")
        if self.warmup < 0 or self.weight_decay < 0 or (self.prefetch or 0) < 0:
            raise InputError(
                f"warmup={self.warmup}, weight_decay={self.weight_decay}, prefetch={self.prefetch}: none is below 0"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas is {self.betas}: both lie in [0, 1)")
        for name, allowed in (
            ("optimizer", ("adamw", "adam", "sgd")),
            ("schedule", ("constant", "cosine")),
            ("precision", ("float32", "bf16", "float64")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}: choose from {', '.join(allowed)}")
        if self.shards is not None and self.batch_size % self.shards:
            raise InputError(f"batch_size is {self.batch_size}, which {self.shards} shards do not divide")

    def but(self, **changes: Any) -> TrainSettings:
        """A copy with some settings changed; an unknown name is refused with the nearest known one."""
        known = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise InputError(f"there is no setting {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
        return dataclasses.replace(self, **changes)

    def rate(self, step: int, peak: float) -> float:
        """Learning rate of a step in [0, steps)."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "constant":
            return peak * rise
        return peak * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))
