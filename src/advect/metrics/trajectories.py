r"""Figures of trajectories and densities: straightness, bits per dimension."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from advect.errors import InputError
from advect.metrics.base import Estimate, bootstrap_mean
from advect.solvers import Trajectory, bits_per_dim


def squared(x: Tensor) -> Tensor:
    """|x|^2 per sample: (B, *shape) -> (B,), float64."""
    return x.double().square().flatten(1).sum(1)


def straightness_per_sample(trajectory: Trajectory) -> Tensor:
    r"""int_0^1 |(z_1 - z_0) - v(z_t, t)|^2 dt along each recorded trajectory, (B,).

    The trapezoid rule on the recorded velocities. At the end, where no solver asks for one, the last is taken again:
    that leaves the rule of second order.

    Args:
        trajectory: A run of a solver with ``record=True``, from t=0 to t=1.
    """
    states, times = trajectory.states, trajectory.times
    if len(times) < 2 or abs(times[0]) > 1e-9 or abs(times[-1] - 1) > 1e-9:
        raise InputError(f"the trajectory runs from {times[0]} to {times[-1]}: straightness is defined from 0 to 1")
    chord = states[-1] - states[0]
    gaps = [squared(chord - v) for v in (*trajectory.velocities, trajectory.velocities[-1])]
    return sum(
        ((b - a) / 2 * (gaps[i] + gaps[i + 1]) for i, (a, b) in enumerate(itertools.pairwise(times))),
        start=torch.zeros_like(gaps[0]),
    )


def straightness(trajectory: Trajectory, generator: torch.Generator | None = None) -> Estimate:
    r"""S = E int_0^1 |(z_1 - z_0) - v(z_t, t)|^2 dt on trajectories of the ODE; zero if one Euler step is exact.

    Taken on the interpolation between training pairs instead, the same integral is the training loss.

    Args:
        trajectory: A run of an accurate solver with ``record=True``, from t=0 to t=1.
        generator: Feeds the bootstrap over trajectories.

    Source: arXiv 2209.03003 section 2.2 and theorem 3.7.
    """
    return bootstrap_mean("straightness", straightness_per_sample(trajectory), generator)


def bits_per_dimension(
    log_prob: Tensor, dimensions: int, spacing: float = 2 / 255, generator: torch.Generator | None = None
) -> Estimate:
    r"""-(log p(x) / (d ln 2) + log2(spacing)): the bits that one coordinate of a discrete sample costs.

    Args:
        log_prob: log p(x) in nats, (B,), of samples that were dequantised with noise as wide as `spacing`.
        dimensions: d, the number of coordinates of a sample.
        spacing: Distance of neighbouring levels in the unit of x: 2/255 for 256 levels from -1 to 1, 1 for data that
            are not discrete.
        generator: Feeds the bootstrap over samples.

    Source: arXiv 1511.01844 section 3.1.
    """
    bits = bits_per_dim(log_prob.double(), dimensions, 1 / spacing)
    return bootstrap_mean("bits per dimension", bits, generator, unit="bits")
