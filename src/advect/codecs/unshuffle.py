"""Space to depth: fewer, deeper pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from advect.codecs.base import Codec
from advect.errors import InputError


class PixelUnshuffle(Codec):
    """Blocks of pixels become channels: (C, H, W) to (C factor^2, H / factor, W / factor); a permutation, nothing lost.

    A network on the smaller grid costs factor^2 times less per channel, so it can be wider at equal time.

    Args:
        factor: Side of a block, at least 1.
    """

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        if factor < 1:
            raise InputError(f"factor is {factor}: the side of a block is at least 1")
        self.factor = factor

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return F.pixel_unshuffle(x, self.factor)

    def decode(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, self.factor)

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        f = self.factor
        if len(shape) != 3 or shape[1] % f or shape[2] % f:
            raise InputError(f"data of shape {shape} cannot be cut into blocks of {f} x {f} pixels: pad or resize it")
        return shape[0] * f * f, shape[1] // f, shape[2] // f

    def log_abs_det(self, shape: tuple[int, ...]) -> float | None:
        return 0.0
