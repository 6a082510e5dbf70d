"""Metrics: figures that carry their interval, their sample counts, their extractor and what real data would score."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from advect.batch import Batch
from advect.encoders import Extractor, extract
from advect.errors import InputError
from advect.parts import Part
from advect.randomness import generator as seeded
from advect.randomness import randint, randperm

Better = Literal["lower", "higher", "floor"]
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval, and what belongs beside it.

    Attributes:
        name: What was measured, the extractor in brackets: ``FD[digits-cnn]``.
        value: The figure.
        low: Lower end of the interval; None if no resamples were asked for.
        high: Upper end of the interval.
        n: Generated samples that went in.
        n_real: Real samples that went in; 0 where there are none.
        floor: The same figure of real samples against other real ones; None where there is no such thing.
        floor_n: Real samples on either side of the floor.
        better: Whether lower or higher is better, or nearness to the floor.
        extractor: Version and hash of the extractor; empty if there is none.
        unit: Unit of the figure, if it has one.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    n_real: int = 0
    floor: float | None = None
    floor_n: int = 0
    better: Better = "lower"
    extractor: str = ""
    unit: str = ""

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        real = f" against {self.n_real}" if self.n_real else ""
        floor = "" if self.floor is None else f"; real against real {self.floor:.4g} (N = {self.floor_n})"
        interval = "" if self.low is None or self.high is None else f"{self.low:.4g} to {self.high:.4g}, "
        return f"{self.name} {self.value:.4g}{unit} ({interval}N = {self.n}{real}{floor})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


class Measured(NamedTuple):
    """What a metric finds: the figure, the figures of bootstrap resamples (B,), and how many samples went in."""

    value: Tensor
    resampled: Tensor
    n: int
    n_real: int


class Metric(Part, ABC):
    """A figure of generated samples against real ones.

    A member says how samples are represented and how two represented sets are measured. The rest is the same for all:
    the interval, the floor, N and the name of the extractor always come with the figure.
    """

    better: ClassVar[Better] = "lower"
    unit: ClassVar[str] = ""

    @property
    @abstractmethod
    def name(self) -> str:
        """What figures are labelled with."""

    @property
    def extractor_used(self) -> Extractor | None:
        """The extractor that represents samples, if there is one."""
        return None

    def represent(self, samples: Tensor | Batch) -> Tensor:
        """Samples as rows of numbers (N, d): features, or all coordinates in float64."""
        x = samples.x1 if isinstance(samples, Batch) else samples
        extractor = self.extractor_used
        return x.detach().flatten(1).double() if extractor is None else extract(extractor, x.detach())

    @abstractmethod
    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        """The figure of rows x (N, d) against real rows y (M, d); `resamples` as in `__call__`."""

    @torch.no_grad()
    def __call__(
        self,
        fake: Tensor | Batch,
        real: Tensor | Batch,
        generator: torch.Generator | None = None,
        other_real: Tensor | Batch | None = None,
        resamples: int | None = None,
    ) -> Estimate:
        """Measure.

        Args:
            fake: Generated samples (N, *shape), or a batch of them.
            real: Real samples (M, *shape), or a batch of them.
            generator: Feeds the bootstrap and all subsampling; the default is the same one at every call.
            other_real: Further real samples, measured against `real` for the floor, as many as there are fake ones at
                most. Without them the floor is one half of `real` against the other, at half its size.
            resamples: Bootstrap resamples of the interval; None takes the metric's own number, 0 gives no interval.
        """
        generator = seeded("metric") if generator is None else generator
        x, y = self.represent(fake), self.represent(real)
        if min(len(x), len(y)) < 4 or x.shape[1:] != y.shape[1:]:
            raise InputError(
                f"{self.name} was given samples of shapes {tuple(x.shape)} and {tuple(y.shape)}: "
                "give at least 4 of each, of one shape"
            )
        found = self.measure(x, y, generator, resamples)
        if other_real is None:
            a, b = y[randperm(len(y), generator, device=y.device)].tensor_split(2)
        else:
            a, b = self.represent(other_real), y
            a = a[randperm(len(a), generator, device=a.device)[: len(x)]]
        floor = self.measure(a, b, generator, 0)
        extractor = self.extractor_used
        return estimate(
            self.name,
            found.value,
            found.resampled,
            n=found.n,
            n_real=found.n_real,
            floor=floor.value.item(),
            floor_n=min(floor.n, floor.n_real),
            better=self.better,
            extractor="" if extractor is None else " ".join(filter(None, (extractor.version, extractor.hash))),
            unit=self.unit,
        )


def estimate(name: str, value: Tensor, resampled: Tensor, **about: Any) -> Estimate:
    """An Estimate from a figure and its bootstrap resamples.

    The percentile interval is moved so that the mean of the resamples falls on the figure: a resample of a distance
    adds the bias of a finite sample a second time.
    """
    number = value.item()
    if resampled.numel() == 0:
        return Estimate(name, number, None, None, **about)
    edges = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=resampled.dtype, device=resampled.device)
    low, high = (resampled.quantile(edges) + (value - resampled.mean())).tolist()
    return Estimate(name, number, low, high, **about)


def bootstrap_mean(
    name: str, values: Tensor, generator: torch.Generator | None = None, resamples: int = 1000, **about: Any
) -> Estimate:
    """The mean of one number per sample (N,), with its interval; `about` are further attributes of the Estimate."""
    generator = seeded("metric") if generator is None else generator
    values = values.detach().double()
    return estimate(name, values.mean(), resampled_means(values, generator, resamples), n=len(values), **about)


def resampled_means(values: Tensor, generator: torch.Generator, resamples: int) -> Tensor:
    """Means of bootstrap resamples of values (N,), (resamples,)."""
    n, means = len(values), values.new_empty(resamples)
    for i in range(resamples):
        means[i] = values[randint(n, (n,), generator, device=values.device)].mean()
    return means


def subsample(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most `most` rows, drawn without replacement."""
    return x if len(x) <= most else x[randperm(len(x), generator, device=x.device)[:most]]


def counts(n: int, resamples: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """How often each of n rows is drawn in each bootstrap resample, (resamples, n) float64."""
    drawn = randint(n, (resamples, n), generator, device=device)
    ones = torch.ones_like(drawn, dtype=torch.float64)
    return torch.zeros_like(ones).scatter_add_(1, drawn, ones)
