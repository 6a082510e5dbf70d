"""Data: numbered samples in splits, with their conditions. Every format gives this and nothing more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
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
    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        """The samples with these numbers: float32 x1 and checked conditions.

        Args:
            split: Which split.
            index: Numbers of samples, int64 (B,) on the CPU, in [0, size(split)).
            generator: What random augmentation and random partners draw from (training passes one, seeded by the
                step and shard); without it a sample is a function of its number alone.
        """
