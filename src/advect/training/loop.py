"""The one training loop, whatever is trained on however many processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.couplings import GibbsWeights, Independent, Paired
from advect.data.table import TableData
from advect.errors import InputError
from advect.flow import Flow
from advect.randomness import seed_of
from advect.training.ema import Averages
from advect.training.feed import Feed, ahead
from advect.training.interrupts import Interrupts, raise_for
from advect.training.job import Job
from advect.training.meter import Meter, first_bad, summary
from advect.training.module import Trained, at_rest, modules_in
from advect.training.optim import Optimisers
from advect.training.processes import Processes
from advect.training.settings import TrainSettings


class NotFinite(InputError):
    """The loss or its gradient became NaN or infinite; the message names the step, the times and the mend."""


class Files:
    """What a training writes; in memory, nothing."""

    def sample(self) -> None:
        """After each step: samples, if they are due."""

    def log(self, row: dict[str, Any]) -> None:
        """A row of the log, every `log_every` steps."""

    def save(self, stopping: bool) -> None:
        """After each step: a checkpoint, if it is due or the training is being stopped."""

    def last_good(self) -> str:
        """A clause that names the last good checkpoint."""
        return "there is no checkpoint, since no folder was given"


class Trainer:
    """Runs a job step by step; at every moment its state is `step` and the tensors of :meth:`state`.

    Args:
        job: What to do.
        processes: On which processes.
        shards: Parts of a global batch, where a run that is resumed has fixed them.
    """

    def __init__(self, job: Job, processes: Processes, shards: int | None = None) -> None:
        self.job, self.processes, self.files = job, processes, Files()
        settings, device = job.settings, processes.device
        self.shards = count_shards(settings, processes.count, shards)
        dtype = torch.float64 if settings.precision == "float64" else None
        for net in (*job.networks.values(), job.objective, job.transport):
            net.to(device, dtype)
            processes.share(net)
        job.codec.to(device).eval()
        self.frozen = [module for net in job.frozen.values() for module in modules_in(net)]
        for net in self.frozen:
            net.to(device, dtype)
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
        copies = [net for kept in self.averages.copies for net in kept.values()] if self.averages else []
        alternate = any(group.every > 1 for group in settings.groups.values())
        self.wrapped = processes.wrap(self.trained, copies, alternate=alternate)
        if self.averages is not None:
            self.averages.attach(processes.local)
        self.optimisers = Optimisers({**job.networks, "objective": job.objective}, settings, processes)
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
        self._clock = time.perf_counter()

    def run(self) -> None:
        """Train to the last step.

        Raises:
            NotFinite: If a loss or gradient is not finite.
            KeyboardInterrupt, SystemExit: On Ctrl-C or SIGTERM, after the step under way is done and saved.
        """
        settings, monitor = self.job.settings, self.job.monitor
        per_process = self.shards // self.processes.count
        mine = range(self.processes.index * per_process, (self.processes.index + 1) * per_process)
        batches = ahead(self.feed, self._places(mine), self._workers())
        monitor.start(self.job.stage, self.step, settings.steps)
        cuda = [self.processes.device] if self.processes.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(cuda), at_rest(self.frozen), Interrupts() as interrupts:
                while self.step < settings.steps:
                    self._one_step(batches, mine)
                    monitor.step(self.step)
                    due = self.step % settings.log_every == 0 or self.step == settings.steps
                    self.files.sample()
                    if due:
                        self.log()
                    # several processes must stop at the same step: they ask each other when they synchronise anyway
                    stopping = interrupts.caught is not None if self.processes.count == 1 else False
                    if self.processes.count > 1 and due:
                        stopping = self.processes.any(interrupts.caught is not None)
                    self.files.save(stopping)
                    if stopping:
                        raise_for(interrupts.caught or signal.SIGTERM)
        finally:
            batches.close()
            monitor.finish()

    def _one_step(self, batches: Iterator[Batch], mine: range) -> None:
        step, optimisers, share = self.step, self.optimisers, 1.0 / len(mine)
        turns = optimisers.turns(step)
        turn = turns[0] if turns else "model"
        optimisers.zero_grad()
        for shard in mine:
            batch = next(batches)
            self.processes.seed(seed_of(*self.feed.path, step, shard, "network"))  # dropout inside networks
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

    def log(self) -> None:
        """Read the device, stop if a step was not finite, and write a row of the log."""
        held = self.check()
        now, rows = time.perf_counter(), self.meter.used
        row = {"step": self.step, "lr": self.job.settings.rate(self.step - 1, self.job.settings.lr)}
        row |= summary(held)
        row |= {"steps_per_second": rows / (now - self._clock), "time": time.time()}
        self._clock = now
        self.meter.clear()
        self.files.log(row)
        self.job.monitor.log(row)

    def check(self) -> dict[str, Tensor]:
        """What the meter holds, as means over processes, on the CPU.

        Raises:
            NotFinite: If the loss or gradient of one of these steps is not finite.
        """
        held = {name: self.processes.mean(value).cpu() for name, value in self.meter.tensors().items()}
        bad = first_bad(held)
        if bad is None:
            return held
        row, bins = bad
        step, count = self.step - self.meter.used + row + 1, self.job.settings.time_bins
        what = "loss" if not bool(held["scalars"][row, 0].isfinite()) else "gradient"
        times = ", ".join(f"[{b / count:g}, {(b + 1) / count:g}]" for b in bins)
        where = f"for t in {times}" if bins else "though the loss is finite in every time bin"
        raise NotFinite(
            f"the {what} is not finite at step {step} {where}; {self.files.last_good()}: lower "
            f"lr={self.job.settings.lr}, clip harder, or look at the data and the interpolant at these times"
        )

    def flow(self) -> Flow:
        """The Flow as it is now, with averaged weights if there is an average. Collective: all processes call it."""
        job = self.job
        nets = self.processes.whole(self.averages.networks() if self.averages else job.networks)
        return Flow(
            nets["model"],
            job.transport,
            job.codec,
            job.conditions,
            job.sampler,
            job.codec.latent_shape(job.data.shape),
            {role: net for role, net in nets.items() if role != "model"},
            job.record,
        )

    def finished(self) -> Flow:
        """The Flow at the end, out of training mode, and as trainable as the networks were. Collective."""
        flow = self.flow().eval()
        for role, live in self.job.networks.items():
            kept = flow.network if role == "model" else flow.others[role]
            assert isinstance(kept, nn.Module)
            for mine, theirs in zip(kept.parameters(), live.parameters(), strict=True):
                mine.requires_grad_(theirs.requires_grad)
        return flow

    def state(self) -> dict[str, Tensor]:
        """Everything beside the step and the Flow's tensors that a resume needs. Collective."""
        out = {f"raw.{name}": value for name, value in self.trained.state_dict().items()}
        out |= {f"optimiser.{name}": value for name, value in self.optimisers.tensors().items()}
        if self.averages is not None:
            # average 0 is in the Flow
            out |= {f"average.{name}": value for name, value in self.averages.tensors(first=1).items()}
        out = {name: self.processes.gather(value) for name, value in out.items()}
        return out | {f"meter.{name}": self.processes.mean(value) for name, value in self.meter.tensors().items()}

    def restore(self, step: int, tensors: Mapping[str, Tensor], flow: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` and :meth:`flow` (its tensors by name) gave after `step` steps.

        Raises:
            InputError: If the tensors are not those of these networks.
        """
        parts: dict[str, dict[str, Tensor]] = {"raw": {}, "optimiser": {}, "average": {}, "meter": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        for name, value in flow.items():
            for prefix, role in (("network.", "0.model."), ("others.", "0.")):
                if name.startswith(prefix):
                    parts["average"][role + name.removeprefix(prefix)] = value
        live = self.trained.state_dict()
        if live.keys() != parts["raw"].keys():
            names = sorted(live.keys() ^ parts["raw"].keys())
            raise InputError(f"the checkpoint is of other networks: {names[0]} is in one of the two alone")
        with torch.no_grad():
            for name, value in live.items():
                self.processes.spread(parts["raw"][name], value)
            if self.averages is not None:
                for name, value in self.averages.tensors().items():
                    self.processes.spread(parts["average"][name], value)
        self.optimisers.restore(parts["optimiser"], self.processes.like)
        self.meter.restore(parts["meter"])
        self.step = step

    def _places(self, mine: range) -> Iterator[tuple[int, int]]:
        for step in range(self.step, self.job.settings.steps):
            for shard in mine:
                yield step, shard

    def _workers(self) -> int:
        job = self.job
        if job.settings.prefetch is not None:
            return job.settings.prefetch
        in_memory = isinstance(job.data, TableData) and isinstance(job.data.table.x1, Tensor)
        pairs = not isinstance(job.transport.coupling, (GibbsWeights, Independent, Paired))
        # one thread alone asks for data that are read or computed on the way: a user's callable need not be thread-safe
        return 2 * pairs if in_memory else 1


def count_shards(settings: TrainSettings, processes: int, kept: int | None = None) -> int:
    """Parts into which a global batch is cut: those a run has kept, those asked for, or one per micro-batch.

    Raises:
        InputError: If the batch cannot be cut so.
    """
    shards = kept or settings.shards or processes * settings.accumulate
    if shards % processes or settings.batch_size % shards:
        origin = "which the run has kept from its start" if kept else "so many as shards or processes x accumulate say"
        raise InputError(
            f"batch_size={settings.batch_size} in {shards} shards ({origin}) on {processes} processes does not come "
            "out even: the processes must divide the shards, and the shards the batch"
        )
    return shards
