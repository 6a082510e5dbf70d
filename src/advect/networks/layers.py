"""Small things that the networks share."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn
from torch.autograd import forward_ad

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def under_forward_ad() -> bool:
    """Whether forward-mode differentiation is on: ``torch.func.jvp`` and its kin, or ``forward_ad.dual_level``."""
    return forward_ad._current_level >= 0


def zeroed(layer: Layer) -> Layer:
    """The layer with weights of zero, so that what it closes starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class GroupNorm(nn.GroupNorm):
    """Normalise groups of at least 4 channels, at most 32 groups, over all pixels.

    Args:
        channels: Channels of x (B, channels, ...).
    """

    def __init__(self, channels: int) -> None:
        groups = min(32, max(1, channels // 4))
        while channels % groups:
            groups -= 1
        super().__init__(groups, channels)

    def forward(self, input: Tensor) -> Tensor:
        if not under_forward_ad():
            return super().forward(input)
        # torch 2.13: the fused kernel's forward mode cannot be traced by torch.compile; its parts can
        grouped = input.unflatten(1, (self.num_groups, -1)).flatten(2)
        centred = grouped - grouped.mean(2, keepdim=True)
        normed = centred * (centred.square().mean(2, keepdim=True) + self.eps).rsqrt()
        shape = (-1,) + (1,) * (input.ndim - 2)
        return normed.reshape(input.shape) * self.weight.view(shape) + self.bias.view(shape)
