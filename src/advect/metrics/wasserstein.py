"""Wasserstein-2 distances between samples: sliced, and exact."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import require
from advect.metrics.base import Measured, Metric, counts, subsample
from advect.randomness import generator as seeded
from advect.randomness import randn, randperm


def directions(dimension: int, n: int = 200, seed: int = 0) -> Tensor:
    """n unit vectors, float64 (n, dimension), the same for one seed always."""
    v = randn((n, dimension), seeded(seed, "directions"), dtype=torch.float64)
    return v / v.norm(dim=1, keepdim=True)


def sliced_w2(x: Tensor, y: Tensor, n_directions: int = 200, seed: int = 0) -> Tensor:
    r"""sqrt of the mean squared difference of sorted projections, over samples and directions.

    The distance of isotropic clouds that are a apart is a / sqrt(d): projections shrink it.

    Args:
        x: Samples (N, *shape), flattened.
        y: Samples (M, *shape), flattened; of unequal numbers the larger set is compared at the quantiles of the
            smaller.
        n_directions: Number of directions.
        seed: Seed of the directions.

    Source: N. Bonneel et al., Sliced and Radon Wasserstein barycenters, JMIV 51 (2015).
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    axes = directions(x.shape[1], n_directions, seed).to(x.device).T
    px, py = (x @ axes).sort(0).values, (y @ axes).sort(0).values
    n = min(len(x), len(y))
    return (_quantiles(px, n) - _quantiles(py, n)).square().mean().sqrt()


def _quantiles(ordered: Tensor, n: int) -> Tensor:
    """n evenly placed quantiles of ordered columns (N, k)."""
    if len(ordered) == n:
        return ordered
    place = (torch.arange(n, device=ordered.device, dtype=ordered.dtype) + 0.5) * len(ordered) / n - 0.5
    low = place.floor().long().clamp(0, len(ordered) - 2)
    return torch.lerp(ordered[low], ordered[low + 1], (place - low)[:, None])


def exact_w2(x: Tensor, y: Tensor) -> Tensor:
    """The root of the least mean squared distance of a transport plan between the samples.

    Takes a time of about N^3 and a memory of N^2: for up to a few thousand samples.

    Args:
        x: Samples (N, *shape), flattened.
        y: Samples (M, *shape), flattened.

    Raises:
        MissingExtra: Without POT, which the extra ``ot`` brings.
    """
    ot = require("ot", "ot", "the exact Wasserstein distance")
    x, y = x.flatten(1).double(), y.flatten(1).double()
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square().cpu().numpy()
    return torch.tensor(float(ot.emd2([], [], cost, numItermax=10_000_000)), dtype=torch.float64).sqrt()


@dataclass(frozen=True)
class SlicedW2(Metric):
    """Sliced 2-Wasserstein distance; see :func:`sliced_w2`.

    Args:
        n_directions: Number of directions.
        seed: Seed of the directions.
        resamples: Bootstrap resamples of the interval.
    """

    n_directions: int = 200
    seed: int = 0
    resamples: int = 50

    @property
    def name(self) -> str:
        return "sliced W2"

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        n = min(len(x), len(y))
        x, y = subsample(x, n, generator), subsample(y, n, generator)
        axes = directions(x.shape[1], self.n_directions, self.seed).to(x.device).T
        px, py = (x @ axes).sort(0), (y @ axes).sort(0)
        b = self.resamples if resamples is None else resamples
        draws = zip(counts(n, b, generator, x.device), counts(n, b, generator, x.device), strict=True)
        resampled = [
            (_redrawn(px.values, px.indices, cx) - _redrawn(py.values, py.indices, cy)).square().mean().sqrt()
            for cx, cy in draws
        ]
        return Measured(
            (px.values - py.values).square().mean().sqrt(),
            torch.stack(resampled) if resampled else x.new_empty(0),
            n,
            n,
        )


def _redrawn(ordered: Tensor, order: Tensor, times: Tensor) -> Tensor:
    """Ordered columns (n, k) of a resample in which row i is drawn times[i] times: already ordered, no second sort."""
    n, k = ordered.shape
    return ordered.T.reshape(-1).repeat_interleave(times.long()[order].T.reshape(-1), output_size=n * k).view(k, n).T


@dataclass(frozen=True)
class ExactW2(Metric):
    """Exact 2-Wasserstein distance of samples, by POT; see :func:`exact_w2`.

    The distance falls with N: compare figures of one N only. The interval comes from subsamples of half the size,
    drawn without replacement, whose spread is that of the figure times sqrt(2).

    Args:
        most: Samples used of each side, drawn at random if there are more.
        resamples: Subsamples of the interval.
    """

    most: int = 1024
    resamples: int = 20

    @property
    def name(self) -> str:
        return "W2"

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        n = min(len(x), len(y), self.most)
        x, y = subsample(x, n, generator), subsample(y, n, generator)
        value = exact_w2(x, y)
        parts = [
            exact_w2(*(z[randperm(n, generator, device=z.device)[: n // 2]] for z in (x, y)))
            for _ in range(self.resamples if resamples is None else resamples)
        ]
        halves = torch.stack(parts) if parts else value.new_empty(0)
        return Measured(value, value + (halves - halves.mean()) / 2**0.5 if parts else halves, n, n)
