r"""The noise of a path around a data point, and what it says of the points: Gaussian, or Student-t of D degrees.

A state x_t = a x1 + g x0 with x0 = s e lies around a x1 with scale g s. Given x_t, point i of a finite set has weight

    Student-t   (1 + |x - a x_i|^2 / (D g^2 s^2))^{-(N+D)/2}
    Gaussian    exp(-|x - a x_i|^2 / (2 g^2 s^2))

normalised over the points.

Source: PFGM++, arXiv 2302.04265, section 3 (with r = sigma sqrt(D)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_density(square: Tensor, scale: Tensor | float, dimensions: int, df: float | None) -> Tensor:
    r"""log of the density with squared distance `square` from its centre, of N = `dimensions` and scale s.

        log Gamma((N+D)/2) - log Gamma(D/2) - (N/2) log(pi D) - N log s - ((N+D)/2) log(1 + square / (D s^2))

    Args:
        square: |x - centre|^2, any shape.
        scale: s, a number or a tensor that broadcasts against `square`.
        dimensions: N.
        df: D; None for the Gaussian.
    """
    width = scale if isinstance(scale, Tensor) else torch.as_tensor(scale, dtype=square.dtype, device=square.device)
    spread = dimensions * width.log()
    if df is None:
        return -0.5 * square / width.square() - spread - 0.5 * dimensions * math.log(2 * math.pi)
    half = 0.5 * (dimensions + df)
    constant = math.lgamma(half) - math.lgamma(0.5 * df) - 0.5 * dimensions * math.log(math.pi * df)
    return constant - spread - half * torch.log1p(square / (df * width.square()))


def log_weights(excess: Tensor, least: Tensor, scale: Tensor, dimensions: int, df: float | None) -> Tensor:
    r"""log of the density at squared distance least + excess, less that at `least`; finite where it has a limit.

        Student-t   -((N+D)/2) log(1 + excess / (D s^2 + least))
        Gaussian    -excess / (2 s^2)

    The posterior weights of data points given a state are the softmax of these over the points, `least` being the
    squared distance to the nearest. Taken relative to it, nothing over- or underflows for N+D in the thousands. At s=0
    the Student-t weights tend to (nearest / distance)^{N+D}, the Gaussian ones to the nearest point.

    Args:
        excess: Squared distance less the least one, at least 0.
        least: Least squared distance, broadcasts against `excess`.
        scale: s, broadcasts against `excess`.
        dimensions: N.
        df: D; None for the Gaussian.
    """
    if df is None:
        return torch.where(excess == 0, 0.0, -0.5 * excess / scale**2)
    ratio = torch.where(excess == 0, 0.0, excess / (df * scale**2 + least))
    return -0.5 * (dimensions + df) * torch.log1p(ratio)


def point_logits(
    y: Tensor, points: Tensor, a: Tensor, scale: Tensor, df: float | None, keep: Tensor | None = None
) -> Tensor:
    r"""log of the posterior weights of points given states, up to a constant per state: (B, K).

    Args:
        y: States less g times the mean of the source, (B, N), float64.
        points: (K, N), float64.
        a: Share of data, () or (B, 1).
        scale: g s, () or (B, 1).
        df: D; None for the Gaussian.
        keep: Which points each state may come from, bool (B, K); None for all.
    """
    # -|y - a x_i|^2 / 2 less what is the same for all points; no (B, K, N) tensor
    closeness = a * (y @ points.T) - 0.5 * a**2 * points.square().sum(1)
    if keep is not None:
        closeness = torch.where(keep, closeness, -torch.inf)
    best = closeness.max(1, keepdim=True)
    least = best.values
    if df is not None:
        least = (y - a * points[best.indices[:, 0]]).square().sum(1, keepdim=True)
    return log_weights(2 * (best.values - closeness), least, scale, y.shape[1], df)
