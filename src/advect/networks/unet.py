"""A U-Net for images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.networks.attention import SelfAttention, name_layers
from advect.networks.base import NetSpec, Network
from advect.networks.checkpointing import run_block
from advect.networks.embeddings import Embedding
from advect.networks.layers import Conv2d, GroupNorm, Linear, channels_last, zeroed


@dataclass(frozen=True)
class UNetSize:
    """Width of the first level, its multiples by level, blocks per level, levels with attention."""

    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]


class UNet(Network):
    r"""Residual convolution blocks on halved and doubled resolutions, with skips between equal ones.

    Every block is told time and conditions as scale and shift of its second normalisation. Level 0 has the full
    resolution; a decoder level has one block more than an encoder level.

    | size | width | levels | blocks | attention at | parameters for shape (3, 32, 32), no condition |
    |---|---|---|---|---|---|
    | XS | 32 | 1, 2 | 1 | 1 | 839,779 |
    | S | 64 | 1, 2, 2 | 2 | 2 | 7,677,315 |
    | B | 128 | 1, 2, 2, 2 | 2 | 1 | 42,855,427 |
    | L | 128 | 1, 2, 2, 2 | 4 | 1 | 67,635,459 |

    Args:
        spec: What it is built for: a state of shape (channels, height, width). Other heights and widths may be given
            later, as long as the levels halve them evenly.
        size: The row of the table.
        width: Channels of level 0, instead of those of `size`.
        multipliers: Channels by level as multiples of `width`, instead of those of `size`.
        blocks: Residual blocks per level, instead of those of `size`.
        attention: Levels whose blocks attend over all pixels, instead of those of `size`; the middle always does.
        dropout: Probability of a zero in every residual block, in training.
        skip_scale: Factor on every sum x + h; 0.5 ** 0.5 keeps the variance of a sum of equals, 1 is a plain sum.
        checkpointing: Compute the inner activations of blocks again in the backward pass: less memory, more time.

    Raises:
        InputError: If the state is no image, or the levels do not halve it evenly.

    Source: arXiv 2006.11239 appendix B and arXiv 2105.05233 section 3 (blocks, scale and shift, attention);
    arXiv 2011.13456 appendix H (skip scaling).
    """

    sizes: ClassVar[dict[str, UNetSize]] = {
        "XS": UNetSize(32, (1, 2), 1, (1,)),
        "S": UNetSize(64, (1, 2, 2), 2, (2,)),
        "B": UNetSize(128, (1, 2, 2, 2), 2, (1,)),
        "L": UNetSize(128, (1, 2, 2, 2), 4, (1,)),
    }

    def __init__(
        self,
        spec: NetSpec,
        size: Literal["XS", "S", "B", "L"] = "S",
        width: int | None = None,
        multipliers: tuple[int, ...] | None = None,
        blocks: int | None = None,
        attention: tuple[int, ...] | None = None,
        dropout: float = 0.0,
        skip_scale: float = 0.5**0.5,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(spec)
        if len(spec.shape) != 3:
            raise InputError(
                f"shape is {spec.shape}: a UNet takes images (channels, height, width), an MLP takes anything"
            )
        preset = self.sizes[size]
        width = preset.width if width is None else width
        channels = [width * m for m in (preset.multipliers if multipliers is None else multipliers)]
        blocks = preset.blocks if blocks is None else blocks
        attended = preset.attention if attention is None else attention
        self.levels, self.checkpointing = len(channels), checkpointing
        self._check_size(spec.shape[1], spec.shape[2])

        told = 4 * width
        self.embed = Embedding(spec, told)

        def block(inner: int, outer: int, attends: bool = False, resample: Resample = "none") -> UNetBlock:
            return UNetBlock(inner, outer, told, attends, resample, dropout, skip_scale)

        self.stem = Conv2d(spec.shape[0], width, 3, padding=1)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        skips, c = [width], width
        for i, level in enumerate(channels):
            steps = nn.ModuleList() if i == 0 else nn.ModuleList([block(c, c, resample="down")])
            skips += [c] * (i > 0) + [level] * blocks
            steps.extend(block(c if j == 0 else level, level, i in attended) for j in range(blocks))
            self.encoder.append(steps)
            c = level
        self.middle = nn.ModuleList([block(c, c, attends=True), block(c, c)])
        for i, level in reversed(list(enumerate(channels))):
            steps = nn.ModuleList()
            for _ in range(blocks + 1):
                steps.append(block(c + skips.pop(), level, i in attended))
                c = level
            if i > 0:
                steps.append(block(c, c, resample="up"))
            self.decoder.append(steps)
        self.norm = GroupNorm(c)
        self.head = zeroed(Conv2d(c, spec.shape[0], 3, padding=1))
        name_layers(self)

    @property
    def feature_names(self) -> tuple[str, ...]:
        down = tuple(f"down{i}" for i in range(self.levels))
        return (*down, "middle", *(f"up{i}" for i in reversed(range(self.levels))))

    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Any:
        self._check_features(features)
        self._check_size(x.shape[-2], x.shape[-1])
        told = nn.functional.silu(self.embed(x, times, cond))
        seen: dict[str, Tensor] = {}
        h = self.stem(channels_last(x.to(self.head.weight.dtype)))
        skips = [h]
        for i, steps in enumerate(self.encoder):
            for block in steps:  # pyright: ignore[reportGeneralTypeIssues]
                h = run_block(block, h, told, again=self.checkpointing)
                skips.append(h)
            seen[f"down{i}"] = h
        for block in self.middle:
            h = run_block(block, h, told, again=self.checkpointing)
        seen["middle"] = h
        for i, steps in zip(reversed(range(self.levels)), self.decoder, strict=True):
            for block in steps:  # pyright: ignore[reportGeneralTypeIssues]
                if block.resample != "up":
                    h = torch.cat([h, skips.pop()], 1)
                h = run_block(block, h, told, again=self.checkpointing)
            seen[f"up{i}"] = h
        out = self.head(nn.functional.silu(self.norm(h))).to(x.dtype).contiguous()
        return (out, {name: seen[name] for name in features}) if features else out

    def _check_size(self, height: int, width: int) -> None:
        unit = 2 ** (self.levels - 1)
        if height % unit or width % unit:
            up = (-(-height // unit) * unit, -(-width // unit) * unit)
            raise InputError(
                f"x is {height} x {width}, but a UNet of {self.levels} levels needs multiples of {unit}: pad it by "
                f"{up[0] - height} rows and {up[1] - width} columns to {up[0]} x {up[1]}, or give fewer multipliers"
            )


Resample = Literal["none", "down", "up"]


class UNetBlock(nn.Module):
    """x -> (skip(x) + conv(dropout(silu(scale * norm(conv(silu(norm(x)))) + shift)))) * skip_scale, then attention.

    Args:
        inner: Channels that come in.
        outer: Channels that go out.
        told: Length of the embedding of time and conditions.
        attends: Whether attention over all pixels follows.
        resample: Halve or double height and width first.
        dropout: Probability of a zero.
        skip_scale: Factor on the sums.
    """

    def __init__(
        self, inner: int, outer: int, told: int, attends: bool, resample: Resample, dropout: float, skip_scale: float
    ) -> None:
        super().__init__()
        self.resample, self.skip_scale = resample, skip_scale
        self.norm0, self.norm1 = GroupNorm(inner), GroupNorm(outer)
        self.conv0 = Conv2d(inner, outer, 3, padding=1)
        self.conv1 = zeroed(Conv2d(outer, outer, 3, padding=1))
        self.skip = Conv2d(inner, outer, 1) if inner != outer else nn.Identity()
        self.modulation = Linear(told, 2 * outer)
        self.dropout = nn.Dropout(dropout)
        if attends:
            self.norm2 = GroupNorm(outer)
            self.attention = SelfAttention(outer, heads=max(1, outer // 64), zero=True)
        else:
            self.attention = None

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        silu = nn.functional.silu
        h, x = self._resampled(silu(self.norm0(x))), self._resampled(x)
        h = self.conv0(h)
        scale, shift = self.modulation(told)[:, :, None, None].chunk(2, 1)
        h = silu(torch.addcmul(shift, self.norm1(h), 1 + scale))
        x = (self.skip(x) + self.conv1(self.dropout(h))) * self.skip_scale
        if self.attention is None:
            return x
        tokens = self.norm2(x).flatten(2).transpose(1, 2)
        attended = self.attention(tokens).transpose(1, 2).reshape(x.shape)
        return (x + attended) * self.skip_scale

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return nn.functional.avg_pool2d(x, 2)
        if self.resample == "up":
            return nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        return x
