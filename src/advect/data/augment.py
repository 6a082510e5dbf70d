"""Random changes at batch time; what they draw comes from the generator of the batch, so resuming stays arithmetic."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from advect.batch import Batch
from advect.conditions import Condition
from advect.data.base import Data, Split
from advect.errors import InputError
from advect.randomness import rand, randint


class Augmentation(Data):
    """Data with random changes where a generator is passed (training); without one, the data as they are."""

    data: Data

    @abstractmethod
    def change(self, batch: Batch, generator: torch.Generator) -> Batch:
        """A batch with random changes, the same for all of a sample: x1, x0 and picture extras."""

    @final
    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @final
    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self.data.conditions

    @final
    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.data.class_names

    @final
    @property
    def kind(self) -> Literal["image", "array"]:
        return self.data.kind

    @final
    def size(self, split: Split = "train") -> int:
        return self.data.size(split)

    @final
    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        if len(self.data.shape) != 3:
            raise InputError(
                f"{type(self).__name__} changes pictures (C, H, W), but samples have shape {self.data.shape}"
            )
        batch = self.data.batch(split, index, generator)
        return batch if generator is None else self.change(batch, generator)


@dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """Mirror left and right, for pictures whose meaning survives it (not digits or writing).

    Args:
        data: What is changed.
        probability: Of a flip, per sample.
    """

    data: Data
    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise InputError(f"probability is {self.probability}: a probability lies in [0, 1]")

    def change(self, batch: Batch, generator: torch.Generator) -> Batch:
        flip = rand((len(batch),), generator, device=batch.x1.device) < self.probability
        return _on_pictures(batch, lambda x: torch.where(flip[:, None, None, None], x.flip(-1), x))


@dataclass(frozen=True)
class Shift(Augmentation):
    """Move pictures by whole pixels, up to `pixels` each way; edge pixels are repeated.

    Args:
        data: What is changed.
        pixels: Largest shift along each axis, 1 or more.
    """

    data: Data
    pixels: int = 2

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise InputError(f"pixels is {self.pixels}: a shift is of 1 pixel or more")

    def change(self, batch: Batch, generator: torch.Generator) -> Batch:
        height, width = batch.x1.shape[-2:]
        by = randint(2 * self.pixels + 1, (2, len(batch)), generator, device=batch.x1.device) - self.pixels
        down = (torch.arange(height, device=by.device) + by[0, :, None]).clamp(0, height - 1)
        across = (torch.arange(width, device=by.device) + by[1, :, None]).clamp(0, width - 1)
        pixel = (down[:, :, None] * width + across[:, None, :]).flatten(1)[:, None]

        def moved(x: Tensor) -> Tensor:
            return x.flatten(2).gather(2, pixel.expand(-1, x.shape[1], -1)).reshape(x.shape)

        return _on_pictures(batch, moved)


def _on_pictures(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """Apply a change to everything in a batch that is laid out as x1 is."""
    area = batch.x1.shape[-2:]
    return batch.replace(
        x1=change(batch.x1),
        x0=None if batch.x0 is None else change(batch.x0),
        extras={k: change(v) if v.ndim == 4 and v.shape[-2:] == area else v for k, v in batch.extras.items()},
    )
