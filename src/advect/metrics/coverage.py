"""Whether the spread of samples is right: how much of the truth their intervals hold."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.errors import InputError


def interval_coverage(samples: Tensor, draws: Tensor, level: float = 0.9) -> Tensor:
    r"""Share of draws of the truth inside the central interval of the samples, per coordinate, shape of one sample.

    The interval runs between the (1 - level)/2 and (1 + level)/2 quantiles of the samples. Where both laws agree the
    share is `level`, but for the few samples (of 64 the outer quantiles lie a little inside); below it the samples are
    too narrow or beside the truth, above it too wide.

    Args:
        samples: Samples (N, *shape).
        draws: Draws of the true law (M, *shape).
        level: Between 0 and 1.

    Raises:
        InputError: If shapes differ, or the level is not between 0 and 1.
    """
    if samples.shape[1:] != draws.shape[1:] or samples.ndim < 2:
        raise InputError(
            f"samples have shape {tuple(samples.shape)} and draws {tuple(draws.shape)}: they have to agree"
        )
    if not 0 < level < 1:
        raise InputError(f"level is {level}: the share of an interval lies between 0 and 1")
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=samples.dtype, device=samples.device)
    low, high = torch.quantile(samples, ends, dim=0)
    return ((draws >= low) & (draws <= high)).to(samples.dtype).mean(0)
