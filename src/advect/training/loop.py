"""The one training loop, whatever is trained on however many processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from advect.batch import Batch
from advect.codecs import Codec
from advect.conditions import Conditions
from advect.couplings import Independent, Paired
from advect.data.base import Data
from advect.errors import InputError
from advect.objectives import Objective
from advect.randomness import seed_of
from advect.training.ema import Averages
from advect.training.feed import Feed, ahead
from advect.training.meter import Meter, first_bad, summary
from advect.training.module import Trained
from advect.training.monitor import Monitor
from advect.training.optim import Optimisers
from advect.training.processes import Processes
from advect.training.settings import TrainSettings
from advect.transport import Transport


class NotFinite(InputError):
    """The loss or its gradient became NaN or infinite; the message names the step, the times and the mend."""


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
        frozen: Networks that are called and not trained, by role.
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
    frozen: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    monitor: Monitor = field(default_factory=Monitor)


class Trainer:
    """Runs a job step by step; at every moment its state is `step` and the tensors it holds.

    Args:
        job: What to do.
        processes: On which processes.
    """

    def __init__(self, job: Job, processes: Processes) -> None:
        self.job, self.processes = job, processes
        settings, device = job.settings, processes.device
        self.shards = settings.shards or processes.count * settings.accumulate
        if self.shards % processes.count or settings.batch_size % self.shards:
            raise InputError(
                f"batch_size={settings.batch_size} in {self.shards} shards on {processes.count} processes does not "
                "come out even: the processes must divide the shards, and the shards the batch"
            )
        self.dtype = torch.float64 if settings.precision == "float64" else None
        for net in (*job.networks.values(), job.objective, job.transport):
            net.to(device, self.dtype)
        job.codec.to(device)
        for net in job.frozen.values():
            if isinstance(net, nn.Module):
                net.to(device, self.dtype).requires_grad_(False).eval()
        self.averages = Averages(settings.ema, job.networks) if settings.ema is not None else None
        self.trained = Trained(
            job.networks,
            job.objective,
            job.transport,
            frozen=job.frozen,
            averaged=self.averages.networks() if self.averages else None,
            autocast=torch.bfloat16 if settings.precision == "bf16" else None,
            compiled=settings.compile,
        ).train()
        self.wrapped = processes.wrap(self.trained)
        self.optimisers = Optimisers({**job.networks, "objective": job.objective}, settings)
        weight = next(p for parameters in self.optimisers.parameters.values() for p in parameters)
        self.feed = Feed(
            job.data,
            job.codec,
            job.conditions,
            job.transport,
            (job.seed, job.stage),
            settings.batch_size,
            self.shards,
            device,
            weight.dtype,
        )
        self.meter = Meter(settings.log_every, settings.time_bins, device)
        self.step = 0
        self.checked = 0  # steps known to have been finite
        self._clock = time.perf_counter()

    def run(self) -> None:
        """Train to the last step."""
        settings = self.job.settings
        per_process = self.shards // self.processes.count
        mine = range(self.processes.index * per_process, (self.processes.index + 1) * per_process)
        batches = ahead(self.feed, self._places(mine), self._workers())
        self.job.monitor.start(self.job.stage, self.step, settings.steps)
        cuda = [self.processes.device] if self.processes.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(cuda):
                while self.step < settings.steps:
                    self._one_step(batches, mine)
                    self.job.monitor.step(self.step)
                    if self.step % settings.log_every == 0 or self.step == settings.steps:
                        self.log()
        finally:
            batches.close()
            self.job.monitor.finish()

    def _one_step(self, batches: Iterator[Batch], mine: range) -> None:
        step, optimisers, share = self.step, self.optimisers, 1.0 / len(mine)
        turns = optimisers.turns(step)
        turn = turns[0] if turns else "model"
        optimisers.zero_grad()
        for shard in mine:
            batch = next(batches)
            torch.manual_seed(seed_of(*self.feed.path, step, shard, "network"))  # dropout inside networks
            generator = self.feed.generator(step, shard, "loss")
            if shard == mine[-1]:
                outcome = self.wrapped(batch, generator, turn)
                (outcome.loss if len(mine) == 1 else outcome.loss * share).backward()
            else:
                with self.processes.apart(self.wrapped):
                    outcome = self.wrapped(batch, generator, turn)
                    (outcome.loss * share).backward()
            self.meter.add(outcome, share)
        self.meter.close_step(optimisers.step(step, turns))
        if self.averages is not None:
            self.averages.update(step)
        self.step += 1

    def log(self) -> dict[str, Any]:
        """Read the device, stop if a step was not finite, and return the row of the log."""
        held = {name: self.processes.mean(value).cpu() for name, value in self.meter.tensors().items()}
        scalars, table = held.pop("scalars"), held.pop("table")
        self._refuse(scalars, table)
        now, rows = time.perf_counter(), self.meter.used
        row = {"step": self.step, "lr": self.job.settings.rate(self.step - 1, self.job.settings.lr)}
        row |= summary(scalars, table, {name.removeprefix("logs."): value for name, value in held.items()})
        row |= {"steps_per_second": rows / (now - self._clock), "time": time.time()}
        self._clock = now
        self.meter.clear()
        self.job.monitor.log(row)
        return row

    def _refuse(self, scalars: torch.Tensor, table: torch.Tensor) -> None:
        bad = first_bad(scalars, table)
        if bad is None:
            self.checked = self.step
            return
        row, bins = bad
        step, count = self.step - len(scalars) + row + 1, self.job.settings.time_bins
        what = "loss" if not bool(scalars[row, 0].isfinite()) else "gradient"
        times = ", ".join(f"[{b / count:g}, {(b + 1) / count:g}]" for b in bins)
        where = f"for t in {times}" if bins else "though the loss is finite in every time bin"
        raise NotFinite(
            f"the {what} is not finite at step {step} {where}: {self.last_good()}; lower lr={self.job.settings.lr}, "
            f"clip harder, or look at the data and the interpolant at these times"
        )

    def last_good(self) -> str:
        """A clause that names the last good checkpoint."""
        return "there is no checkpoint (training in memory)"

    def _places(self, mine: range) -> Iterator[tuple[int, int]]:
        for step in range(self.step, self.job.settings.steps):
            for shard in mine:
                yield step, shard

    def _workers(self) -> int:
        if self.job.settings.prefetch is not None:
            return self.job.settings.prefetch
        return 0 if isinstance(self.job.transport.coupling, (Independent, Paired)) else 2
