"""Normalisations that can be compiled under forward-mode differentiation."""

from __future__ import annotations

from torch import Tensor, nn

from advect.networks.attention import under_forward_ad


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
