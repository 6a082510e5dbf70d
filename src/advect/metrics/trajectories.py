r"""Figures of trajectories and densities: straightness, the balance of a transport, bits per dimension."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from advect.errors import InputError
from advect.metrics.base import Estimate, bootstrap_mean
from advect.solvers import Trajectory


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


class Balance(NamedTuple):
    """The parts of E|x1 - x0|^2 = E|z1 - z0|^2 + S + L.

    Attributes:
        paired: E|x1 - x0|^2, the cost of the pairs that were trained on.
        carried: E|z1 - z0|^2, the cost of the ends of the ODE.
        straightness: S.
        crossing: L = int E Var(x1 - x0 | x_t) dt, the loss of the exact velocity; what is left of the others.
    """

    paired: Estimate
    carried: Estimate
    straightness: Estimate
    crossing: Estimate


def balance(x0: Tensor, x1: Tensor, trajectory: Trajectory, generator: torch.Generator | None = None) -> Balance:
    r"""Where the cost of a coupling goes when the flow of its exact velocity replaces it.

    The identity E|x1 - x0|^2 = E|z1 - z0|^2 + S + L holds for the exact velocity of the straight path between x0 and
    x1. Compare `crossing` with the final loss of a trained network, summed over coordinates.

    Args:
        x0: Sources of pairs (B, *shape).
        x1: Data of the same pairs.
        trajectory: Recorded from the same x0, so that their noise cancels, from t=0 to t=1.
        generator: Feeds the bootstrap over samples.

    Source: follows from arXiv 2209.03003 theorems 3.5 and 3.7.
    """
    if x0.shape != x1.shape or x0.shape != trajectory.states.shape[1:]:
        raise InputError(
            f"x0, x1 and states have shapes {tuple(x0.shape)}, {tuple(x1.shape)}, "
            f"{tuple(trajectory.states.shape[1:])}: the trajectory starts at the x0 of the pairs"
        )
    paired, carried = squared(x1 - x0), squared(trajectory.states[-1] - trajectory.states[0])
    bent = straightness_per_sample(trajectory)
    named = {"paired cost": paired, "carried cost": carried, "straightness": bent, "crossing": paired - carried - bent}
    return Balance(*(bootstrap_mean(name, values, generator) for name, values in named.items()))


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
    bits = -log_prob.double() / (dimensions * math.log(2)) - math.log2(spacing)
    return bootstrap_mean("bits per dimension", bits, generator, unit="bits")
