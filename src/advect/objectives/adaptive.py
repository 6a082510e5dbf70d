"""Weights per sample that follow the sample's own error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import Part


@dataclass(frozen=True)
class AdaptiveNorm(Part):
    r"""Every sample's squared error is divided by a power of itself.

        L = sum over coordinates of |prediction - target|^2,   w = 1 / (sg(L) + eps)^power,   loss = mean of w L

    `power` 0 is the plain sum of squares, 1/2 is like Huber's loss, 1 is nearly log L: its gradient is
    grad L / (L + eps). The sum is over coordinates; a mean would change what eps means.

    Args:
        power: At least 0.
        eps: Above 0, in units of the squared error of a whole sample. Samples whose error is far below it are no
            longer raised; with targets that have little noise (a teacher's velocity) a small eps gives the samples
            with r = t weights near 1/eps, and the jumps are drowned, or diverge where their target is the network's own
            (SplitMeanFlow): raise eps to the size of the errors, or take a power below 1.

    Raises:
        InputError: If power is negative or eps is not positive.

    Source: arXiv 2505.13447, section 4.3: power 1, eps 0.01 for ImageNet, 0.75 and 1e-3 for CIFAR-10.
    """

    power: float = 1.0
    eps: float = 0.01

    def __post_init__(self) -> None:
        if not self.power >= 0:
            raise InputError(f"power is {self.power}: it is at least 0, which weighs all samples alike")
        if not self.eps > 0:
            raise InputError(f"eps is {self.eps}: it is above 0, so that a sample without error has a finite weight")

    @torch.no_grad()
    def weight(self, prediction: Tensor, target: Tensor) -> Tensor:
        """w per sample, (B,), without gradient."""
        error = (prediction - target).square().reshape(len(target), -1).sum(1)
        return (error + self.eps) ** -self.power
