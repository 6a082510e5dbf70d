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


def draw(flow: Flow, job: Job, folder: Path, step: int) -> tuple[Path, float]:
    """Sample with the conditions of held-out data, always from the same starting points; write the samples.

    Returns:
        The file (a picture, or an array), and the energy distance of the samples to as many held-out data.
    """
    split = "validation" if job.data.size("validation") else "train"
    size = job.data.size(split)
    n = min(job.settings.sample_count, size)
    real = job.data.batch(split, torch.arange(n))
    cond: dict[str, Any] = {item.name: real.cond[item.name] for item in job.conditions.items if item.name in real.cond}
    x0, against = None, real.x1
    if real.x0 is not None:
        x0 = job.codec.encode(real.x0.to(flow.device))
        # what grows from x0 resembles its own partner: an unbiased distance needs others
        against = job.data.batch(split, (torch.arange(n) + n) % size).x1
    samples = flow.sample(n, seed=job.seed, x0=x0, **cond).float().cpu()
    distance = float(energy_distance(samples, against))
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
