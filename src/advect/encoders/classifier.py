"""Small classifiers for the built-in data: extractors of features, and independent judges of generated samples."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from advect.encoders.base import Extractor
from advect.errors import InputError
from advect.files import load_tensors, read_json

WEIGHTS = Path(__file__).parent / "weights"


class ConvNet(nn.Module):
    """Convolutions at halving resolutions, a mean over pixels, and a linear layer on top.

    Args:
        channels: Channels of the images.
        widths: Channels by level; every level after the first halves height and width.
        classes: Number of classes.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip((channels, *widths), widths, strict=False)):
            for c, stride in ((a, 1 if i == 0 else 2), (b, 1)):
                layers += [nn.Conv2d(c, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def features(self, images: Tensor) -> Tensor:
        """What the last layer reads, (B, widths[-1])."""
        return self.body(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class SmallClassifier(Extractor):
    """An ensemble of small convolution networks trained on a built-in data set; its weights ship with the package.

    Features are those of all members side by side, class probabilities the mean over members.
    ``scripts/train_extractors.py`` made the weights on the train split; accuracy on the other splits stands beside
    them.

    Args:
        data: The built-in set: ``"digits"`` (8x8), ``"emoji"`` (32x32, by group) or ``"clothing"`` (32x32).
    """

    def __init__(self, data: Literal["digits", "emoji", "clothing"]) -> None:
        super().__init__()
        if not (WEIGHTS / f"{data}.json").exists():
            raise InputError(f"data is {data!r}: there are classifiers for digits, emoji and clothing")
        card = read_json(WEIGHTS / f"{data}.json")
        self.data: str = data
        self.shape: tuple[int, ...] = tuple(card["shape"])
        self.accuracy: dict[str, float] = card["accuracy"]
        self._weights_version = str(card["version"])
        self.members = nn.ModuleList(
            ConvNet(self.shape[0], tuple(card["widths"]), card["classes"]) for _ in range(card["members"])
        )
        self.load_state_dict({k: v.float() for k, v in load_tensors(WEIGHTS / f"{data}.safetensors").items()})
        self.freeze()

    @property
    def name(self) -> str:
        return f"{self.data}-cnn"

    @property
    def version(self) -> str:
        return self._weights_version

    def features(self, images: Tensor) -> Tensor:
        self._check(images)
        return torch.cat([member.features(images) for member in self._nets()], 1)

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Probability of each class, (B, classes), for images like those of `forward`."""
        self._check(images)
        return torch.stack([member(images).softmax(1) for member in self._nets()]).mean(0)

    def classify(self, images: Tensor, batch: int = 256) -> Tensor:
        """The most probable class of many images, (B,) on the images' device."""
        place = next(self.parameters())
        parts = [self.probabilities(x.to(place.device, place.dtype)).argmax(1) for x in images.split(batch)]
        return torch.cat(parts).to(images.device)

    def _nets(self) -> list[ConvNet]:
        return list(self.members)  # pyright: ignore[reportReturnType]

    def _check(self, images: Tensor) -> None:
        if tuple(images.shape[1:]) != self.shape:
            raise InputError(
                f"images have shape {tuple(images.shape[1:])}, but the {self.data} classifier takes {self.shape}: "
                "choose another extractor"
            )
