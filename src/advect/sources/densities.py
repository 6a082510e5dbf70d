"""Density and score of a mixture of isotropic Gaussians, and the draw of its components."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advect.errors import InputError
from advect.randomness import rand


def mixture_log_prob(x: Tensor, means: Tensor, std: Tensor, log_weights: Tensor) -> Tensor:
    """log sum_k w_k N(x; m_k, s_k^2 I), shape (B,), for x (B, *shape), means (K, d), std and log-weights (K,)."""
    return torch.logsumexp(_log_joint(x.flatten(1), means, std, log_weights), 1)


def mixture_score(x: Tensor, means: Tensor, std: Tensor, log_weights: Tensor) -> Tensor:
    """The gradient of :func:`mixture_log_prob` in x, shape of x."""
    flat = x.flatten(1)
    pull = torch.softmax(_log_joint(flat, means, std, log_weights), 1) / std.square()
    return (pull @ means - pull.sum(1, keepdim=True) * flat).reshape(x.shape)


def _log_joint(x: Tensor, means: Tensor, std: Tensor, log_weights: Tensor) -> Tensor:
    # without the matrix product, which cancels in float32 near a stored point
    distance = torch.cdist(x, means, compute_mode="donot_use_mm_for_euclid_dist")
    normaliser = x.shape[1] * (std.log() + 0.5 * math.log(2 * math.pi))
    return log_weights - normaliser - 0.5 * (distance / std).square()


def normalised(weights: tuple[float, ...] | None, count: int) -> tuple[float, ...]:
    """Weights that sum to 1; equal ones if None.

    Raises:
        InputError: If there is not one finite weight above 0 per component.
    """
    if weights is None:
        return (1 / count,) * count
    if len(weights) != count or not all(0 < w < math.inf for w in weights):
        raise InputError(f"weights is {weights} for {count} components: give one finite weight above 0 for each")
    total = math.fsum(weights)
    return tuple(w / total for w in weights)


def choose(weights: Tensor, n: int, generator: torch.Generator | None, rows: Tensor | None = None) -> Tensor:
    """n component numbers drawn by their weights (K,), on the weights' device; rows of one sample share theirs."""
    samples = n if rows is None else int(rows.max()) + 1
    edges = (weights.double() if weights.dtype.itemsize < 4 else weights).cumsum(0)  # a draw as of a whole flow
    edges[-1] = 1.0  # a draw in [0, 1) must find its component whatever the sum was rounded to
    index = torch.searchsorted(edges, rand((samples,), generator, dtype=edges.dtype, device=edges.device), right=True)
    return index if rows is None else index[rows]
