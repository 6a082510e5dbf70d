"""Motion blur, random projections, and noise alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from advect.errors import InputError
from advect.inverse.operators.base import Operator, Shape, picture_sides
from advect.randomness import generator, randn


class Denoising(Operator):
    """The picture itself, with noise."""

    @property
    def gram(self) -> float | None:
        return 1.0

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return y


class MotionBlur(Operator):
    """Convolution with the track of a shaking camera; the picture is mirrored at its edges.

    The track is drawn once, at construction, by its seed, and its kernel is a buffer: the same in every process, and
    saved with the operator.

    Args:
        size: Side of the kernel in pixels, odd.
        intensity: How much the track bends, in [0, 1]; 0 is a straight line.
        seed: Which track.
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].
    """

    kernel: Tensor

    def __init__(self, size: int = 9, intensity: float = 0.5, seed: int = 0, noise: float = 0.01) -> None:
        super().__init__(noise)
        if size < 3 or size % 2 == 0:
            raise InputError(f"size is {size}: the side of a kernel is odd and at least 3")
        if not 0 <= intensity <= 1:
            raise InputError(f"intensity is {intensity}: it lies in [0, 1]")
        self.size, self.intensity, self.seed = size, intensity, seed
        self.register_buffer("kernel", _track(size, intensity, generator(seed, "motion kernel")).float())

    def output_shape(self, shape: Shape) -> Shape:
        height, width = picture_sides(self, shape)
        if self.size // 2 >= min(height, width):
            raise InputError(
                f"size is {self.size}, too wide a kernel for a picture of {width}x{height}: "
                f"give at most {2 * min(height, width) - 1}"
            )
        return shape

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x)[None, None].expand(x.shape[1], 1, -1, -1)
        padded = F.pad(x, (self.size // 2,) * 4, mode="reflect")
        return F.conv2d(padded, kernel, groups=x.shape[1])


class RandomProjections(Operator):
    """Scalar products with random orthonormal pictures: compressed sensing, A A' = I.

    Args:
        count: How many, at most the number of values of a picture.
        seed: Which ones.
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].
    """

    def __init__(self, count: int = 64, seed: int = 0, noise: float = 0.01) -> None:
        super().__init__(noise)
        self.keep_positive("count", count)
        self.count, self.seed = count, seed
        self._rows: dict[tuple[object, ...], Tensor] = {}

    @property
    def gram(self) -> float | None:
        return 1.0

    def output_shape(self, shape: Shape) -> Shape:
        if self.count > math.prod(shape):
            raise InputError(f"count is {self.count}, but a picture has {math.prod(shape)} values: give fewer")
        return (self.count,)

    def picture_shape(self, shape: Shape) -> Shape:
        raise InputError(
            "a picture file cannot show random projections: give clean pictures and let them be measured (--degrade)"
        )

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self._matrix(x, x[0].numel()).mT

    def adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return (y @ self._matrix(y, math.prod(shape))).reshape(-1, *shape)

    def _matrix(self, like: Tensor, d: int) -> Tensor:
        key = (d, like.dtype, like.device)
        if key not in self._rows:
            drawn = randn((d, self.count), generator(self.seed, "projections", d), dtype=torch.float64)
            self._rows[key] = torch.linalg.qr(drawn).Q.mT.to(like.device, like.dtype)
        return self._rows[key]


def _track(size: int, intensity: float, numbers: torch.Generator) -> Tensor:
    """A kernel (size, size), float64: a walk at even speed whose direction drifts, spread bilinearly, sum 1."""
    steps = 16 * size
    turns = randn((steps,), numbers, dtype=torch.float64) * intensity * math.pi / math.sqrt(steps)
    start = randn((), numbers, dtype=torch.float64) * math.pi
    angle = start + 2 * turns.cumsum(0)
    points = torch.stack([angle.sin(), angle.cos()], 1).cumsum(0)
    low, high = points.amin(0), points.amax(0)
    # the longer side of the track fills the kernel
    points = (points - (low + high) / 2) / (high - low).max() * (size - 1) + (size - 1) / 2
    corner = points.floor().clamp(0, size - 2)
    y, x = (points - corner).unbind(1)
    row, column = corner.long().unbind(1)
    kernel = torch.zeros(size * size, dtype=torch.float64)
    for dy, dx, weight in ((0, 0, (1 - y) * (1 - x)), (0, 1, (1 - y) * x), (1, 0, y * (1 - x)), (1, 1, y * x)):
        kernel.index_add_(0, (row + dy) * size + column + dx, weight)
    return (kernel / kernel.sum()).reshape(size, size)
