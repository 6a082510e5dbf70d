"""Small things that the networks share, among them layers with a quick forward-mode derivative.

In forward mode torch multiplies by the derivative of a layer's weights also where they have none, with a matrix of
zeros, and takes a normalisation apart into elementwise passes. The layers here know better where they may: in a single
forward-mode derivative through which no gradient flows (:func:`moving`). Elsewhere they are torch's own.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad

from advect.networks import fused

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def under_forward_ad() -> bool:
    """Whether forward-mode differentiation is on: ``torch.func.jvp`` and its kin, or ``forward_ad.dual_level``."""
    return forward_ad._current_level >= 0


def under_forward_ad_alone() -> bool:
    """Whether one forward-mode derivative is all that goes on: no gradients, no other transform, no tracing, autocast.

    Then the derivative may be worked out by hand, from the numbers themselves and in place.
    """
    if not under_forward_ad() or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    stack = get_interpreter_stack()
    return stack is None or [level.key() for level in stack] == [TransformType.Jvp]


def moving(x: Tensor, *still: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """x and its tangent, if a layer may work out its derivative by hand; else None.

    Args:
        x: What goes into the layer.
        *still: What has no tangent, or the derivative is left to torch: the weights.
    """
    if not under_forward_ad_alone() or (x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)):
        return None
    if any(w is not None and forward_ad.unpack_dual(w).tangent is not None for w in still):
        return None
    value, tangent = forward_ad.unpack_dual(x)
    return None if tangent is None else (value, tangent)


def zeroed(layer: Layer) -> Layer:
    """The layer with weights of zero, so that what it closes starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Linear(nn.Linear):
    """x W^T + b: forward mode without the derivative of W where there is none, a fused product where no graph is."""

    def forward(self, input: Tensor) -> Tensor:
        pair = moving(input, self.weight, self.bias)
        if pair is None:
            return fused.linear(input, self.weight, self.bias)
        x, dx = pair
        return forward_ad.make_dual(fused.product(x, self.weight, self.bias), fused.product(dx, self.weight, None))


class Conv2d(nn.Conv2d):
    """A convolution, and forward mode without the derivative of its weights where there is none."""

    def forward(self, input: Tensor) -> Tensor:
        pair = moving(input, self.weight, self.bias)
        if pair is None:
            return super().forward(input)
        x, dx = pair
        return forward_ad.make_dual(super().forward(x), self._conv_forward(dx, self.weight, None))


class LayerNorm(nn.LayerNorm):
    """A normalisation whose forward mode is the fused kernel of its backward pass: its Jacobian is symmetric."""

    def forward(self, input: Tensor) -> Tensor:
        pair = moving(input, self.weight, self.bias)
        if pair is None:
            return super().forward(input)
        x, dx = (part.contiguous() for part in pair)
        shape = list(self.normalized_shape)
        value, mean, rstd = torch.native_layer_norm(x, shape, self.weight, self.bias, self.eps)
        slope = torch.ops.aten.native_layer_norm_backward(dx, x, shape, mean, rstd, None, None, [True, False, False])[0]
        return forward_ad.make_dual(value, slope if self.weight is None else slope * self.weight)


def _laid_out_alike(x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
    """Both contiguous, with the channels last if they are so in x."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    return x.contiguous(memory_format=form), dx.contiguous(memory_format=form)


def channels_last(x: Tensor) -> Tensor:
    """A picture laid out pixel by pixel, as convolutions and attention on a CPU want it; elsewhere as it is.

    Layers hand the layout on. On a GPU the normalisations of torch do not, so nothing would be won there; a compiler
    finds its own, and batches of ``torch.func.vmap`` have none.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return x
    if any(level.key() == TransformType.Vmap for level in get_interpreter_stack() or ()):
        return x
    return x.contiguous(memory_format=torch.channels_last)


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
        shape = (-1,) + (1,) * (input.ndim - 2)
        weight, bias = self.weight.view(shape), self.bias.view(shape)
        pair = moving(input, self.weight, self.bias)
        if pair is not None:  # as in LayerNorm
            x, dx = _laid_out_alike(*pair)
            sizes = len(x), self.num_channels, x.shape[2:].numel(), self.num_groups
            value, mean, rstd = torch.native_group_norm(x, self.weight, self.bias, *sizes, self.eps)
            slope = torch.ops.aten.native_group_norm_backward(dx, x, mean, rstd, None, *sizes, [True, False, False])[0]
            return forward_ad.make_dual(value, slope * weight)
        # torch 2.13: the fused kernel's forward mode cannot be traced by torch.compile; its parts can
        grouped = input.unflatten(1, (self.num_groups, -1)).flatten(2)
        centred = grouped - grouped.mean(2, keepdim=True)
        normed = centred * (centred.square().mean(2, keepdim=True) + self.eps).rsqrt()
        return normed.reshape(input.shape) * weight + bias
