"""A diffusion transformer for images."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.networks import fused
from advect.networks.attention import KeyValues, SelfAttention, name_layers
from advect.networks.base import NetSpec, Network
from advect.networks.checkpointing import run_block
from advect.networks.embeddings import Embedding
from advect.networks.layers import LayerNorm, Linear, zeroed
from advect.networks.patches import from_tokens, to_tokens


class DiTSize(NamedTuple):
    """Number of blocks, features of a token, heads."""

    depth: int
    width: int
    heads: int


class DiT(Network):
    r"""A transformer on square patches; time and conditions set scale, shift and gate of every residual branch.

    The gates start at zero (adaLN-Zero), so every block starts as the identity, and the output starts at zero.

    | size | blocks | width | heads | parameters for shape (3, 32, 32), patch 2, no condition |
    |---|---|---|---|---|
    | XXS | 4 | 128 | 4 | 1,256,588 |
    | XS | 6 | 192 | 3 | 4,139,340 |
    | S | 12 | 384 | 6 | 32,422,284 |
    | B | 12 | 768 | 12 | 129,430,284 |
    | L | 24 | 1024 | 16 | 456,659,980 |
    | XL | 28 | 1152 | 16 | 673,506,444 |

    Args:
        spec: What it is built for: a state of shape (channels, height, width).
        size: The row of the table.
        patch: Side of a patch in pixels; divides height and width.
        depth: Number of blocks, instead of that of `size`.
        width: Features of a token, a multiple of 4 and of `heads`, instead of that of `size`.
        heads: Number of heads, instead of that of `size`.
        dropout: Probability of a zero after attention and in the feed-forward part, in training.
        checkpointing: Compute the inner activations of blocks again in the backward pass: less memory, more time.

    Raises:
        InputError: If the state is no image, or patches do not tile it.

    Source: arXiv 2212.09748 section 3 and table 1. There, time and class are embedded with frequencies for
    t in 0..1000 and two networks of their own; here times lie in [0, 1].
    """

    sizes: ClassVar[dict[str, DiTSize]] = {
        "XXS": DiTSize(4, 128, 4),
        "XS": DiTSize(6, 192, 3),
        "S": DiTSize(12, 384, 6),
        "B": DiTSize(12, 768, 12),
        "L": DiTSize(24, 1024, 16),
        "XL": DiTSize(28, 1152, 16),
    }

    positions: Tensor

    def __init__(
        self,
        spec: NetSpec,
        size: Literal["XXS", "XS", "S", "B", "L", "XL"] = "S",
        patch: int = 2,
        depth: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(spec)
        preset = self.sizes[size]
        depth = preset.depth if depth is None else depth
        width = preset.width if width is None else width
        heads = preset.heads if heads is None else heads
        if len(spec.shape) != 3:
            raise InputError(
                f"shape is {spec.shape}: a DiT takes images (channels, height, width), an MLP takes anything"
            )
        channels, high, wide = spec.shape
        if high % patch or wide % patch:
            up = (-(-high // patch) * patch, -(-wide // patch) * patch)
            raise InputError(
                f"x is {high} x {wide}, which patches of {patch} do not tile: pad it by {up[0] - high} rows and "
                f"{up[1] - wide} columns to {up[0]} x {up[1]}, or give another patch"
            )
        if width % heads or width % 4:
            raise InputError(f"width is {width} with {heads} heads: it must be a multiple of 4 and of heads")
        self.patch, self.checkpointing = patch, checkpointing
        self.tokens = Linear(channels * patch**2, width)
        self.register_buffer("positions", grid_positions(high // patch, wide // patch, width), persistent=False)
        self.embed = Embedding(spec, width)
        self.blocks = nn.ModuleList(DiTBlock(width, heads, dropout) for _ in range(depth))
        self.norm = LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = zeroed(Linear(width, 2 * width))
        self.head = zeroed(Linear(width, channels * patch**2))
        name_layers(self)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(f"block{i}" for i in range(len(self.blocks)))

    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Any:
        self._check_features(features)
        if x.shape[1:] != self.spec.shape:
            raise InputError(f"x has shape {tuple(x.shape)}, but this DiT was built for (B, *{self.spec.shape})")
        told = nn.functional.silu(self.embed(x, times, cond))
        h = self.tokens(to_tokens(x.to(self.head.weight.dtype), self.patch)) + self.positions
        taken: dict[str, Tensor] = {}
        for i, block in enumerate(self.blocks):
            h = run_block(block, h, told, again=self.checkpointing)
            if f"block{i}" in features:
                taken[f"block{i}"] = h
        shift, scale = self.modulation(told)[:, None].chunk(2, 2)
        out = from_tokens(self.head(modulate(self.norm(h), shift, scale)), self.spec.shape, self.patch).to(x.dtype)
        return (out, taken) if features else out


class DiTBlock(nn.Module):
    """h + gate * attention(modulated norm(h)), then h + gate * feed-forward(modulated norm(h)).

    Args:
        width: Features of a token.
        heads: Number of heads.
        dropout: Probability of a zero.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm0 = LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm1 = LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.feed = FeedForward(
            Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Dropout(dropout), Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)
        self.modulation = zeroed(Linear(width, 6 * width))
        for layer in (*self.attention.children(), *self.feed):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor, told: Tensor, mask: Tensor | None = None, cache: KeyValues | None = None) -> Tensor:
        shift0, scale0, gate0, shift1, scale1, gate1 = self.modulation(told)[:, None].chunk(6, 2)
        h = h + gate0 * self.dropout(self.attention(modulate(self.norm0(h), shift0, scale0), mask, cache))
        return h + gate1 * self.feed(modulate(self.norm1(h), shift1, scale1))


class FeedForward(nn.Sequential):
    """Linear, GELU, dropout, linear; the first two are one product where no graph is kept."""

    def forward(self, input: Tensor) -> Tensor:
        inner = self[0]
        if type(inner) is Linear and self._as_made() and fused.graphless():
            _, _, dropout, outer = self
            return outer(dropout(fused.product(input, inner.weight, inner.bias, "gelu")))
        return super().forward(input)

    def _as_made(self) -> bool:
        """No other activation, no further layers, and nobody who wants to see what is between the first two."""
        inner, gelu = self[0], self[1]
        same = len(self) == 4 and type(gelu) is nn.GELU and gelu.approximate == "tanh"
        return same and not fused.watched(inner) and not fused.watched(gelu)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift."""
    return torch.addcmul(shift, x, 1 + scale)


def grid_positions(high: int, wide: int, width: int) -> Tensor:
    """Fixed positions of a high x wide grid: sines and cosines of the row, then of the column, (high * wide, width)."""
    count = width // 4
    frequency = torch.exp(-math.log(10000.0) * torch.arange(count, dtype=torch.float64) / count)

    def one(n: int) -> Tensor:
        angle = torch.arange(n, dtype=torch.float64)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], 1)

    rows = one(high)[:, None].expand(high, wide, -1)
    columns = one(wide)[None].expand(high, wide, -1)
    return torch.cat([rows, columns], 2).reshape(high * wide, width).float()
