"""Metrics of nearest neighbours: precision, recall, and nearness to training samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from advect.encoders import Extractor, Pixels
from advect.errors import InputError
from advect.metrics.base import Measured, Metric, resampled_means, subsample

BLOCK = 1024


def nearest(x: Tensor, y: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Distances and numbers of the k nearest rows of y to every row of x, each (N, k), nearest first.

    Args:
        x: Samples (N, *shape), flattened.
        y: Samples (M, *shape), flattened.
        k: Neighbours asked for, at most M.
    """
    x, y = x.flatten(1), y.flatten(1)
    found = [torch.cdist(part, y).topk(k, dim=1, largest=False) for part in x.split(BLOCK)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def inside(x: Tensor, y: Tensor, k: int = 3) -> Tensor:
    """Whether each row of x (N, *shape) lies in a ball around some row of y that just holds its k nearest others.

    Source: arXiv 1904.06991 section 2.
    """
    x, y = x.flatten(1), y.flatten(1)
    radii = nearest(y, y, k + 1)[0][:, -1]  # the nearest is the row itself
    return torch.cat([(torch.cdist(part, y) <= radii).any(1) for part in x.split(BLOCK)])


class _Share(Metric):
    """A share of rows that lie inside the other set."""

    extractor: Extractor
    k: int
    most: int
    resamples: int

    @property
    def extractor_used(self) -> Extractor:
        return self.extractor

    def _share(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> tuple[Tensor, Tensor]:
        if min(len(x), len(y)) <= self.k:
            raise InputError(
                f"k is {self.k}, but {self.name} was given {len(x)} and {len(y)} samples: give more than k of each"
            )
        hits = inside(x, y, self.k).double()
        return hits.mean(), resampled_means(hits, generator, self.resamples if resamples is None else resamples)


@dataclass(frozen=True)
class Precision(_Share):
    """Share of generated samples that lie among the real ones, over a named extractor.

    The interval resamples the generated samples; the balls around the real ones stay.

    Args:
        extractor: The features.
        k: Neighbours that a ball just holds.
        most: Samples used of each side, drawn at random if there are more. The figure depends on their number.
        resamples: Bootstrap resamples of the interval.

    Source: arXiv 1904.06991 section 2.
    """

    extractor: Extractor = field(default_factory=Pixels)
    k: int = 3
    most: int = 10_000
    resamples: int = 500
    better = "higher"

    @property
    def name(self) -> str:
        return f"precision[{self.extractor.name}]"

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        x, y = subsample(x, self.most, generator), subsample(y, self.most, generator)
        return Measured(*self._share(x, y, generator, resamples), len(x), len(y))


@dataclass(frozen=True)
class Recall(_Share):
    """Share of real samples that lie among the generated ones, over a named extractor.

    The interval resamples the real samples; the balls around the generated ones stay.

    Args:
        extractor: The features.
        k: Neighbours that a ball just holds.
        most: Samples used of each side, drawn at random if there are more. The figure depends on their number.
        resamples: Bootstrap resamples of the interval.

    Source: arXiv 1904.06991 section 2.
    """

    extractor: Extractor = field(default_factory=Pixels)
    k: int = 3
    most: int = 10_000
    resamples: int = 500
    better = "higher"

    @property
    def name(self) -> str:
        return f"recall[{self.extractor.name}]"

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        x, y = subsample(x, self.most, generator), subsample(y, self.most, generator)
        return Measured(*self._share(y, x, generator, resamples), len(x), len(y))


@dataclass(frozen=True)
class NearestTraining(Metric):
    """Mean distance from a generated sample to the nearest training sample: far below the floor means copies.

    Give the training samples as `real` and held-out ones as `other_real`: the floor is then how near fresh real
    samples come. :func:`nearest` gives the pairs to look at.

    Args:
        extractor: The features in which distances are taken.
        resamples: Bootstrap resamples of the interval.
    """

    extractor: Extractor = field(default_factory=Pixels)
    resamples: int = 500
    better = "floor"

    @property
    def name(self) -> str:
        return f"nearest training sample[{self.extractor.name}]"

    @property
    def extractor_used(self) -> Extractor:
        return self.extractor

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        distance = nearest(x, y)[0][:, 0]
        b = self.resamples if resamples is None else resamples
        return Measured(distance.mean(), resampled_means(distance, generator, b), len(x), len(y))
