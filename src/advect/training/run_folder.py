"""The folder of a run: its recipe, log, samples and checkpoints, and how a training in it goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advect.errors import InputError
from advect.files import read_json, save_tensors, write_json
from advect.flow import Flow
from advect.training import checkpoints
from advect.training.ema import Averages
from advect.training.logs import Log
from advect.training.loop import Files, Trainer
from advect.training.posthoc import SNAPSHOTS
from advect.training.processes import Processes
from advect.training.signature import refuse_changes
from advect.training.watch import Watch


class RunFolder(Files):
    """Writes what one training gives.

    Args:
        folder: The run's folder; made when the training begins.
        config: What the run is, in plain values.
        processes: Only the main one writes.
        resume: Whether a run that is there is continued.

    Raises:
        InputError: If there is a run and `resume` is False, or it is another run, or no checkpoint is whole.
    """

    def __init__(self, folder: Path, config: dict[str, Any], processes: Processes, *, resume: bool) -> None:
        self.folder, self.processes = folder, processes
        self.config = json.loads(json.dumps(config))  # tuples become lists, as they are when read back
        self.checkpoints = folder / "checkpoints"
        self._log: Log | None = None
        self._watch: Watch | None = None
        self.pending: dict[str, Any] = {}  # what samples showed, until the next row of the log
        if folder.exists() and not folder.is_dir():
            raise InputError(f"folder is {folder}, which is a file: give a folder, old or new")
        if checkpoints.steps_of(self.checkpoints) and not resume:
            raise InputError(
                f"folder is {folder}, which holds a run: let it resume (the default), or give another folder"
            )
        if checkpoints.steps_of(self.checkpoints) and (folder / "recipe.json").exists():
            refuse_changes(read_json(folder / "recipe.json"), self.config, folder)
        self.found = checkpoints.newest(self.checkpoints)

    @property
    def shards(self) -> int | None:
        """The shards that the run was begun with."""
        return None if self.found is None else int(self.found.state["shards"])

    def begin(self, trainer: Trainer) -> None:
        """Restore the trainer from the newest checkpoint, if there is one, and open the log."""
        self.trainer = trainer
        trainer.files = self
        if self.found is not None:
            try:
                trainer.restore(self.found.step, self.found.tensors, self.found.flow_tensors)
            except InputError as error:
                raise InputError(f"{self.found.folder}: {error}") from error
            trainer.job.monitor.note(f"going on from step {self.found.step}")
            self.pending = dict(self.found.state["pending"])
            self.found = None  # free its tensors
        self.processes.wait()
        if not self.processes.main:
            return
        settings = trainer.job.settings
        if settings.sample_every is not None:
            self._watch = Watch(trainer.job)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoints.clear_leftovers(self.folder)
            write_json(self.folder / "recipe.json", self.config)
            self._log = Log(
                self.folder, trainer.step, tensorboard=settings.tensorboard, wandb=settings.wandb, config=self.config
            )

    def sample(self) -> None:
        every, step = self.trainer.job.settings.sample_every, self.trainer.step
        if every is None or (step % every and step != self.trainer.job.settings.steps):
            return
        flow = self.trainer.flow()
        if self._watch is not None:
            with writing(self.folder / "samples"):
                path, distance = self._watch.draw(flow, self.folder / "samples", step)
            self.pending = {"sample_step": step, "distance": distance}
            self.trainer.job.monitor.samples(step, path)
        self.processes.wait()

    def log(self, row: dict[str, Any]) -> None:
        row |= self.pending
        self.pending = {}
        if self._log is not None:
            self._log.write(row)

    def save(self, stopping: bool) -> None:
        step, settings = self.trainer.step, self.trainer.job.settings
        every = settings.checkpoint_every
        if self.trainer.averages is not None:
            self._snapshot(self.trainer.averages)
        if stopping or step == settings.steps or (every is not None and step % every == 0):
            self._save()

    def last_good(self) -> str:
        steps = checkpoints.steps_of(self.checkpoints)
        if not steps:
            return "there is no checkpoint before it"
        return f"the last good checkpoint is {checkpoints.path_of(self.checkpoints, steps[-1])}"

    def finish(self, flow: Flow) -> None:
        """Write the finished Flow to ``flow/``."""
        if self.processes.main:
            checkpoints.save_flow(flow, self.folder / "flow")
        self.processes.wait()

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _save(self) -> None:
        trainer = self.trainer
        trainer.check()  # what is saved is known to be good
        flow, tensors = trainer.flow(), trainer.state()
        if self._log is not None:
            self._log.flush()
            state = {"stage": trainer.job.stage, "seed": trainer.job.seed, "shards": trainer.shards}
            state["pending"] = self.pending
            path = checkpoints.save(
                self.checkpoints, trainer.step, flow, tensors, state, trainer.job.settings.keep_last
            )
            trainer.job.monitor.note(f"saved {path}")
        self.processes.wait()

    def _snapshot(self, averages: Averages) -> None:
        """Keep the averages as they are, for averages of other widths found after the training."""
        every, step = averages.rule.snapshot_every, self.trainer.step
        if every is None or (step % every and step != self.trainer.job.settings.steps):
            return
        tensors = {name: self.processes.gather(value) for name, value in averages.tensors().items()}
        if self.processes.main:
            with writing(self.folder / SNAPSHOTS):
                save_tensors(self.folder / SNAPSHOTS / f"step-{step:08d}.safetensors", tensors)


@contextlib.contextmanager
def writing(where: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into a sentence; checkpoints say their own."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{where} could not be written ({error.strerror}): free space, or allow writing") from error
