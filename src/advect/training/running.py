"""One job from beginning to end, in memory or in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from advect.flow import Flow
from advect.training.job import Job
from advect.training.loop import Trainer
from advect.training.processes import find_processes
from advect.training.run_folder import RunFolder


def run_job(job: Job, config: dict[str, Any], folder: str | os.PathLike[str] | None, *, resume: bool) -> Flow:
    """Train, in a folder if one is given, and return the Flow.

    Args:
        job: What to do.
        config: What it is, in plain values: a folder that holds another run is refused.
        folder: Where checkpoints and logs go, or None.
        resume: Whether a run in the folder is continued.
    """
    processes = find_processes(job.settings.device)
    if folder is None:
        trainer = Trainer(job, processes)
        trainer.run()
        return trainer.finished()
    files = RunFolder(Path(folder), config, processes, resume=resume)
    trainer = Trainer(job, processes, files.shards)
    files.begin(trainer)
    try:
        trainer.run()
        flow = trainer.finished()
        files.finish(flow)
    finally:
        files.close()
    return flow
