"""A look at a training while it runs: a grid of samples, and a cheap distance to held-out data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advect.errors import MissingExtra
from advect.files import write_atomically
from advect.flow import Flow
from advect.metrics import energy_distance
from advect.training.job import Job


class Watch:
    """Samples under the conditions of held-out data, and their distance to as many.

    The data are read here, before the training begins: from then on its worker alone asks for them, and a user's own
    data need not be thread-safe.

    Args:
        job: What is trained.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        split = "validation" if job.data.size("validation") else "train"
        size = job.data.size(split)
        n = min(job.settings.sample_count, size)
        self.real = job.data.batch(split, torch.arange(n))
        self.against = self.real.x1
        if self.real.x0 is not None:  # what grows from x0 resembles its own partner: an unbiased distance needs others
            self.against = job.data.batch(split, (torch.arange(n) + n) % size).x1

    def draw(self, flow: Flow, folder: Path, step: int) -> tuple[Path, float]:
        """Sample, always from the same starting points, and write the samples.

        Returns:
            The file (a picture, or an array), and the energy distance of the samples to the held-out data.
        """
        job, real = self.job, self.real
        names = [item.name for item in job.conditions.items if item.name in real.cond]
        cond: dict[str, Any] = {name: real.cond[name] for name in names}
        x0 = None if real.x0 is None else job.codec.encode(real.x0.to(flow.device))
        samples = flow.sample(len(real), seed=job.seed, x0=x0, **cond).float().cpu()
        distance = float(energy_distance(samples, self.against))
        path = folder / f"step-{step:08d}"
        if job.data.kind == "image":
            try:
                from advect.report.pictures import save_png

                save_png(path.with_suffix(".png"), samples)
                return path.with_suffix(".png"), distance
            except MissingExtra:
                pass  # without Pillow the numbers are kept
        out = io.BytesIO()
        np.save(out, samples.numpy())
        write_atomically(path.with_suffix(".npy"), out.getvalue())
        return path.with_suffix(".npy"), distance
