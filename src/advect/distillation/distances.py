"""How far a distilled end point is from the teacher's: squared error, features of a frozen network, or both."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from advect.encoders import Extractor
from advect.parts import ModulePart


class Distance(ModulePart, ABC):
    """A differentiable distance per sample between predicted and given states."""

    @abstractmethod
    def forward(self, predicted: Tensor, given: Tensor) -> Tensor:
        """The distance of each sample, shape (B,), of two tensors (B, *shape)."""


class SquaredError(Distance):
    """The mean of (predicted - given)^2 over the coordinates."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, predicted: Tensor, given: Tensor) -> Tensor:
        return (predicted - given).square().flatten(1).mean(1)


class Perceptual(Distance):
    r"""The squared distance of unit feature vectors, |phi(x)/|phi(x)| - phi(y)/|phi(y)||^2.

    The published one-step distillation uses LPIPS with a VGG trunk here; this takes any frozen extractor by name, so
    that the network whose eyes are trusted is written in the recipe.

    Args:
        extractor: The frozen network phi, which takes images in [-1, 1]; gradients pass through it.
    """

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, predicted: Tensor, given: Tensor) -> Tensor:
        a, b = (self.extractor(x).flatten(1) for x in (predicted, given))
        a, b = (f / f.norm(dim=1, keepdim=True).add(1e-10) for f in (a, b))
        return (a - b).square().sum(1)


class Mixed(Distance):
    """first + weight * second.

    Args:
        first: One distance.
        second: The other.
        weight: Weight of the second.
    """

    def __init__(self, first: Distance, second: Distance, weight: float = 1.0) -> None:
        super().__init__()
        self.first, self.second, self.weight = first, second, weight

    def forward(self, predicted: Tensor, given: Tensor) -> Tensor:
        return self.first(predicted, given) + self.weight * self.second(predicted, given)
