"""Whether conditional samples are what they were asked to be, by an independent classifier."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from advect.batch import Batch
from advect.encoders import SmallClassifier
from advect.errors import InputError
from advect.metrics.base import Measured, Metric, resampled_means


@dataclass(frozen=True)
class ClassAccuracy(Metric):
    """Share of samples whose most probable class, by an independent classifier, is the one they were asked for.

    Samples are batches with ``cond[condition]``. The floor is the accuracy on real samples: what the judge itself
    can do.

    Args:
        judge: The classifier.
        condition: Name of the condition that holds the classes.
        resamples: Bootstrap resamples of the interval.
    """

    judge: SmallClassifier = field(default_factory=lambda: SmallClassifier("digits"))
    condition: str = "label"
    resamples: int = 1000
    better = "higher"

    @property
    def name(self) -> str:
        return f"class accuracy[{self.judge.name}]"

    @property
    def extractor_used(self) -> SmallClassifier:
        return self.judge

    def represent(self, samples: Tensor | Batch) -> Tensor:
        """One column: 1 where judge and label agree, else 0."""
        if not isinstance(samples, Batch) or self.condition not in samples.cond:
            raise InputError(
                f"{self.name} was given samples without classes: pass Batch(x1, cond={{{self.condition!r}: labels}})"
            )
        return (self.judge.classify(samples.x1.detach()) == samples.cond[self.condition]).double()[:, None]

    def measure(self, x: Tensor, y: Tensor, generator: torch.Generator, resamples: int | None) -> Measured:
        b = self.resamples if resamples is None else resamples
        return Measured(x.mean(), resampled_means(x[:, 0], generator, b), len(x), len(y))
