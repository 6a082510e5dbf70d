"""Frozen feature extractors: what they are called, what they are fed, and how they are hashed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.files import hash_tensors
from advect.parts import ModulePart


class Extractor(ModulePart, ABC):
    """A frozen map from images (B, C, H, W) in [-1, 1] to features (B, d), with a name that every figure carries.

    It is always in evaluation mode and never computes gradients of its weights; gradients with respect to the images
    pass.
    """

    buffers_are_weights = True
    inception: ClassVar[bool] = False
    """Whether this is the Inception network of FID: only then may a distance be called FID."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a figure is labelled with, resolution included where it matters: ``effnet-lite0@96px``."""

    @property
    @abstractmethod
    def version(self) -> str:
        """The version of the weights."""

    @property
    def hash(self) -> str:
        """Hex digest of the weights, 12 digits; empty if there are none."""
        weights = self.state_dict()
        return hash_tensors(weights)[:12] if weights else ""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """The features of images that have been checked."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to features (B, d)."""
        if images.ndim != 4 or not images.is_floating_point():
            raise InputError(
                f"images are {images.dtype} of shape {tuple(images.shape)}, but the extractor {self.name} takes "
                "floating (B, channels, height, width) in [-1, 1]"
            )
        return self.features(images)

    def train(self, mode: bool = True) -> Extractor:
        """Stay in evaluation mode: an extractor is frozen."""
        return super().train(False)

    def freeze(self) -> None:
        """Take the weights out of training; called at the end of a constructor."""
        self.requires_grad_(False)
        self.train(False)


class Pixels(Extractor):
    """The pixels themselves as features: for distances in data space."""

    @property
    def name(self) -> str:
        return "pixels"

    @property
    def version(self) -> str:
        return "1"

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def prepare(images: Tensor, size: int | None, channels: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize (bicubic, antialiased) to size x size, repeat grey to the channels wanted, and normalise.

    Args:
        images: (B, C, H, W) in [-1, 1].
        size: Height and width that come out; None keeps them.
        channels: Channels that come out; one channel is repeated.
        mean: Mean by channel, in the unit of the images.
        std: Spread by channel, in the unit of the images.
    """
    if images.shape[1] == 1:
        images = images.expand(-1, channels, -1, -1)
    if images.shape[1] != channels:
        raise InputError(f"images have {images.shape[1]} channels, but the extractor takes {channels} or 1")
    if size is not None and tuple(images.shape[-2:]) != (size, size):
        images = nn.functional.interpolate(images, (size, size), mode="bicubic", antialias=True)
    return (images - images.new_tensor(mean).view(-1, 1, 1)) / images.new_tensor(std).view(-1, 1, 1)


@torch.no_grad()
def extract(extractor: Extractor, images: Tensor, batch: int = 256) -> Tensor:
    """Features of many images, `batch` at a time where the extractor is: float64 on the images' device."""
    place = next(extractor.parameters(), images)
    parts = (extractor(part.to(place.device, place.dtype)) for part in images.split(batch))
    return torch.cat([part.double() for part in parts]).to(images.device)
