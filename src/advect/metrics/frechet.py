"""The Frechet distance between Gaussians fitted to features."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from advect.encoders import Extractor, Pixels
from advect.metrics.base import Measured, Metric
from advect.randomness import randint


def frechet_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^{1/2}), the squared 2-Wasserstein distance of fitted Gaussians.

    Covariances divide by N - 1. The trace of the root is the sum of the singular values of C_x^{1/2} C_y^{1/2}, so no
    matrix root of a product is taken and no imaginary part appears; published code takes ``sqrtm(C_x C_y)`` and drops
    it. The estimate is biased upwards by about 1/N: compare figures of one N only.

    Args:
        x: Features (N, d).
        y: Features (M, d).

    Source: arXiv 1706.08500 equation 6.
    """
    x, y = x.double(), y.double()
    root_x, root_y = _root_of_covariance(x), _root_of_covariance(y)
    cross = torch.linalg.svdvals(root_x @ root_y.T).sum()
    return (x.mean(0) - y.mean(0)).square().sum() + root_x.square().sum() + root_y.square().sum() - 2 * cross


def _root_of_covariance(x: Tensor) -> Tensor:
    """A matrix R (k, d) with R^T R = cov(x) and k = min(N, d) rows."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    return centred if len(x) <= x.shape[1] else torch.linalg.qr(centred, mode="r").R


@dataclass(frozen=True)
class FrechetDistance(Metric):
    """Frechet distance over a named extractor: FD[extractor]; FID only with the Inception you supply.

    Args:
        extractor: The features.
        resamples: Bootstrap resamples of the interval.
    """

    extractor: Extractor = field(default_factory=Pixels)
    resamples: int = 50

    @property
    def name(self) -> str:
        return "FID" if self.extractor.inception else f"FD[{self.extractor.name}]"

    @property
    def extractor_used(self) -> Extractor:
        return self.extractor

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        resampled = [
            frechet_distance(_again(x, generator), _again(y, generator))
            for _ in range(self.resamples if resamples is None else resamples)
        ]
        spread = torch.stack(resampled) if resampled else x.new_empty(0)
        return Measured(frechet_distance(x, y), spread, len(x), len(y))


def _again(x: Tensor, generator: torch.Generator) -> Tensor:
    return x[randint(len(x), (len(x),), generator, device=x.device)]
