"""Data: numbered samples in splits, with their conditions. Every format gives this and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor

from advect.batch import Batch
from advect.conditions import Condition
from advect.parts import Part

Split = Literal["train", "validation", "test"]


class Data(Part, ABC):
    """Samples that can be asked for by number, so that order, sharding and resume are arithmetic on a seed.

    Opening (reading files, checking sizes, labels and NaN) happens at the first use of any method and is cached.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, images as (channels, height, width)."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that come with every sample."""
        return ()

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of the condition "label", if there are any."""
        return None

    @property
    def kind(self) -> Literal["image", "array"]:
        """How samples are shown: images are float32 in [-1, 1]."""
        return "array"

    @abstractmethod
    def size(self, split: Split = "train") -> int:
        """Number of samples in a split (0 if it is absent)."""

    @abstractmethod
    def batch(self, split: Split, index: Tensor) -> Batch:
        """The samples with these numbers (int64, on the CPU): float32 x1 and checked conditions."""
