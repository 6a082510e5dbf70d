"""Densities of planar samples on a grid, for toy problems whose density is known by cell."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.errors import InputError


def histogram(x: Tensor, bins: int = 40, low: float = -5.0, high: float = 5.0) -> Tensor:
    """Counts of planar points (N, 2) in bins x bins equal cells of [low, high]^2; points outside are left out."""
    if x.ndim != 2 or x.shape[1] != 2:
        raise InputError(f"x has shape {tuple(x.shape)}: a planar histogram takes (N, 2)")
    cell = ((x - low) / (high - low) * bins).floor().long()
    inside = ((cell >= 0) & (cell < bins)).all(1)
    index = cell[inside, 0] * bins + cell[inside, 1]
    return torch.bincount(index, minlength=bins * bins).reshape(bins, bins).double()


def histogram_kl(
    data: Tensor, samples: Tensor, bins: int = 40, low: float = -5.0, high: float = 5.0, smoothing: float = 0.1
) -> Tensor:
    r"""KL(data || samples) of two planar histograms, in nats, with `smoothing` added to every count of both.

    The floor of the figure is its value for two draws of the data; it falls with the number of points.

    Args:
        data: Points of the data, (N, 2).
        samples: Points of the model, (M, 2).
        bins: Cells per side.
        low: Left and lower edge.
        high: Right and upper edge.
        smoothing: Added to every count, above 0.
    """
    if not smoothing > 0:
        raise InputError(f"smoothing is {smoothing}: an empty cell needs a count above 0")
    p, q = (histogram(x, bins, low, high) + smoothing for x in (data, samples))
    p, q = p / p.sum(), q / q.sum()
    return (p * (p / q).log()).sum()


def normal_kl(
    samples: Tensor, mean: float, std: float, bins: int = 60, width: float = 4.0, smoothing: float = 0.1
) -> Tensor:
    r"""KL(N(mean, std^2) || samples) of a histogram on mean +- width std, in nats, for samples (N, 1) or (N,).

    The share of the law in each bin comes from its distribution function; what lies outside the bins is left out.

    Args:
        samples: Samples of the model.
        mean: Mean of the normal law.
        std: Its standard deviation.
        bins: Number of equal bins.
        width: Half the width of the histogram in standard deviations.
        smoothing: Added to every count, above 0.
    """
    u = (samples.flatten().double() - mean) / std
    edges = torch.linspace(-width, width, bins + 1, dtype=u.dtype, device=u.device)
    count = torch.histc(u, bins, -width, width) + smoothing
    p, q = torch.special.ndtr(edges).diff(), count / count.sum()
    p = p / p.sum()
    return (p * (p / q).log()).sum()
