"""What the experiments on real pictures share: the pictures of a split, a network of their size, and what is near."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import advect
from advect.data import Data, Split
from advect.encoders import SmallClassifier
from advect.flow import Flow
from advect.metrics import FrechetDistance, nearest
from advect.networks import MLP, NetSpec
from advect.systems.framework.figures import Figure, distance_to
from advect.systems.framework.outcome import images_of


def all_images(data: Data, split: Split = "train") -> Tensor:
    """All samples of a split, (N, *shape)."""
    return data.batch(split, torch.arange(data.size(split))).x1


def all_labels(data: Data, split: Split = "train") -> Tensor:
    """All class labels of a split, (N,)."""
    return data.batch(split, torch.arange(data.size(split))).cond["label"]


def held_out(data: Data) -> Tensor:
    """Validation and test samples together: no training saw them."""
    return torch.cat([all_images(data, "validation"), all_images(data, "test")])


def judged_digits(data: Data) -> Figure:
    """The Frechet distance to the held-out digits in the features of the digits classifier."""
    return distance_to(FrechetDistance(SmallClassifier("digits")), held_out(data))


def digits_network(spec: NetSpec) -> MLP:
    """Four layers of 256: trained on the 8x8 digits in seconds; a U-Net of that quality takes minutes on a CPU."""
    return MLP(spec, hidden=(256, 256, 256, 256))


def small_grey(images: Tensor) -> Tensor:
    """Colour pictures averaged to 8x8 grey ones, (N, 1, 8, 8)."""
    return torch.nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 8)


def with_nearest(samples: Tensor, training: Tensor, label: str, count: int = 20) -> dict[str, list[list[list[int]]]]:
    """Rows for :class:`Pictures`: the first samples, and below each the training picture nearest to it in pixels."""
    few = samples[:count]
    index = nearest(few, training)[1][:, 0]
    return {label: images_of(few, count), f"{label}: nearest training pictures": images_of(training[index], count)}


def shipped_flow(name: str) -> Flow:
    """A flow that ships with advect: "emoji" or "clothing", both 3x32x32 and class-conditional."""
    return Flow.from_pretrained(Path(advect.__file__).parent / "assets" / f"{name}-flow")
