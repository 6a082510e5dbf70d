r"""Distances that are means over pairs: energy distance, kernel distance, maximum mean discrepancy.

All are unbiased U-statistics: pairs of a sample with itself are left out, so a figure can be below zero when the two
sets are alike, and does not shrink with N.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advect.encoders import Extractor, Pixels
from advect.metrics.base import Measured, Metric, counts, subsample

Kernel = Callable[[Tensor, Tensor], Tensor]


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""2 E|X - Y| - E|X - X'| - E|Y - Y'|, without the root that some authors take.

    Args:
        x: Samples (N, *shape), flattened.
        y: Samples (M, *shape), flattened.

    Source: G. Szekely and M. Rizzo, Energy statistics, J. Stat. Plan. Inference 143 (2013), section 1.
    """
    return _discrepancy(_minus_distance, x, y)


def kernel_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared maximum mean discrepancy with the kernel (x . y / d + 1)^3.

    Published code averages subsets of 1000 samples; here all pairs are used, which has the same expectation.

    Args:
        x: Features (N, d).
        y: Features (M, d).

    Source: arXiv 1801.01401 section 4.
    """
    return _discrepancy(_cubic, x, y)


def mmd(x: Tensor, y: Tensor, bandwidth: Tensor | float | None = None) -> Tensor:
    r"""Squared maximum mean discrepancy with the kernel exp(-|x - y|^2 / (2 h^2)).

    Args:
        x: Samples (N, *shape), flattened.
        y: Real samples (M, *shape), flattened.
        bandwidth: h; the median distance between real samples if None, so that it does not depend on x.

    Source: A. Gretton et al., A kernel two-sample test, JMLR 13 (2012), section 2 and 8.
    """
    return _discrepancy(_gaussian(median_distance(y) if bandwidth is None else bandwidth), x, y)


def median_distance(y: Tensor) -> Tensor:
    """The median distance between different samples (M, *shape)."""
    return torch.nn.functional.pdist(y.flatten(1).double()).median()


def _minus_distance(x: Tensor, y: Tensor) -> Tensor:
    return -torch.cdist(x, y)


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _gaussian(bandwidth: Tensor | float) -> Kernel:
    return lambda x, y: torch.exp(torch.cdist(x, y).square() / (-2 * bandwidth**2))


def _discrepancy(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """E k(X, X') + E k(Y, Y') - 2 E k(X, Y) over different pairs."""
    x, y = x.flatten(1).double(), y.flatten(1).double()
    n, m = len(x), len(y)
    kxx, kyy = kernel(x, x), kernel(y, y)
    return (
        (kxx.sum() - kxx.diagonal().sum()) / (n * (n - 1))
        + (kyy.sum() - kyy.diagonal().sum()) / (m * (m - 1))
        - 2 * kernel(x, y).mean()
    )


def _measured(
    kernel: Kernel, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int, block: int = 512
) -> Measured:
    """The discrepancy and its bootstrap: a resample is a weight per sample, so each kernel entry is computed once.

    Pairs of a sample with its own copy are left out of a resample as they are of the figure.
    """
    weights = []
    for z in (x, y):
        plain = torch.ones(1, len(z), dtype=z.dtype, device=z.device)
        weights.append(torch.cat([plain, counts(len(z), resamples, generator, z.device).to(z.dtype)]))

    def within(z: Tensor, w: Tensor) -> Tensor:
        total = torch.zeros(len(w), dtype=z.dtype, device=z.device)
        for start in range(0, len(z), block):
            rows = slice(start, start + block)
            k = kernel(z[rows], z)
            k[torch.arange(len(k)), torch.arange(start, start + len(k))] = 0
            total += (w[:, rows] * (w @ k.T)).sum(1)
        return total / (w.sum(1).square() - w.square().sum(1))

    def between(wx: Tensor, wy: Tensor) -> Tensor:
        total = torch.zeros(len(wx), dtype=x.dtype, device=x.device)
        for start in range(0, len(x), block):
            rows = slice(start, start + block)
            total += (wx[:, rows] * (wy @ kernel(x[rows], y).T)).sum(1)
        return total / (wx.sum(1) * wy.sum(1))

    values = within(x, weights[0]) + within(y, weights[1]) - 2 * between(weights[0], weights[1])
    return Measured(values[0], values[1:], len(x), len(y))


@dataclass(frozen=True)
class EnergyDistance(Metric):
    """Energy distance of samples, in their own unit; see :func:`energy_distance`.

    Args:
        most: Samples used of each side, drawn at random if there are more.
        resamples: Bootstrap resamples of the interval.
    """

    most: int = 4096
    resamples: int = 200

    @property
    def name(self) -> str:
        return "energy distance"

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        x, y = subsample(x, self.most, generator), subsample(y, self.most, generator)
        return _measured(_minus_distance, x, y, generator, self.resamples if resamples is None else resamples)


@dataclass(frozen=True)
class KernelDistance(Metric):
    """Kernel distance over a named extractor: KD[extractor]; KID only with the Inception you supply.

    Args:
        extractor: The features.
        most: Samples used of each side, drawn at random if there are more.
        resamples: Bootstrap resamples of the interval.
    """

    extractor: Extractor = field(default_factory=Pixels)
    most: int = 4096
    resamples: int = 200

    @property
    def name(self) -> str:
        return "KID" if self.extractor.inception else f"KD[{self.extractor.name}]"

    @property
    def extractor_used(self) -> Extractor:
        return self.extractor

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        x, y = subsample(x, self.most, generator), subsample(y, self.most, generator)
        return _measured(_cubic, x, y, generator, self.resamples if resamples is None else resamples)


@dataclass(frozen=True)
class MMD(Metric):
    """Squared maximum mean discrepancy with a Gaussian kernel of the median distance; see :func:`mmd`.

    Args:
        most: Samples used of each side, drawn at random if there are more.
        resamples: Bootstrap resamples of the interval.
    """

    most: int = 4096
    resamples: int = 200

    @property
    def name(self) -> str:
        return "MMD^2"

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        x, y = subsample(x, self.most, generator), subsample(y, self.most, generator)
        kernel = _gaussian(median_distance(y))
        return _measured(kernel, x, y, generator, self.resamples if resamples is None else resamples)
