r"""Operators on rows and columns, one after the other: A X = R X C', with exact pseudo-inverse and resolvent."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.inverse.operators.base import Operator, Shape, picture_sides


class Separable(Operator):
    """Each channel X (H, W) becomes R X C'; R and C are small dense matrices, made once per size."""

    def __init__(self, noise: float = 0.01) -> None:
        super().__init__(noise)
        self._kept: dict[tuple[Any, ...], tuple[Tensor, ...]] = {}

    @abstractmethod
    def matrix(self, n: int) -> Tensor:
        """What one line of n pixels is multiplied with: float64 (m, n)."""

    def output_shape(self, shape: Shape) -> Shape:
        height, width = picture_sides(self, shape)
        return shape[0], self.matrix(height).shape[0], self.matrix(width).shape[0]

    def forward(self, x: Tensor) -> Tensor:
        return self._on(x.shape[-2], x)[0] @ x @ self._on(x.shape[-1], x)[0].mT

    def adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return self._on(shape[1], y)[0].mT @ y @ self._on(shape[2], y)[0]

    def pinv(self, y: Tensor, shape: Shape) -> Tensor:
        return self._on(shape[1], y)[1] @ y @ self._on(shape[2], y)[1].mT

    def solve(self, y: Tensor, a: float, b: float, shape: Shape) -> Tensor:
        (_, _, u, s), (_, _, v, q) = self._on(shape[1], y), self._on(shape[2], y)
        return u @ ((u.mT @ y @ v) / (a * s[:, None] * q[None] + b)) @ v.mT

    def norm_squared(self, shape: Shape) -> float:
        like = torch.empty((), dtype=torch.float64)
        return float(self._on(shape[1], like)[3].max() * self._on(shape[2], like)[3].max())

    def _on(self, n: int, like: Tensor) -> tuple[Tensor, ...]:
        """The matrix for n pixels, its pseudo-inverse, and eigenvectors and eigenvalues of R R'."""
        key = (n, like.dtype, like.device)
        if key not in self._kept:
            matrix = self.matrix(n)
            values, vectors = torch.linalg.eigh(matrix @ matrix.mT)
            found = (matrix, torch.linalg.pinv(matrix), vectors, values)
            self._kept[key] = tuple(part.to(like.device, like.dtype) for part in found)
        return self._kept[key]


class AverageDown(Separable):
    """The mean of every block of factor x factor pixels: A A' = I / factor^2.

    Args:
        factor: Side of a block, at least 2.
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].
    """

    def __init__(self, factor: int = 4, noise: float = 0.01) -> None:
        super().__init__(noise)
        self.factor = _factor(factor)

    @property
    def gram(self) -> float | None:
        return 1 / self.factor**2

    def picture_shape(self, shape: Shape) -> Shape:
        return shape[0], shape[1] * self.factor, shape[2] * self.factor

    def matrix(self, n: int) -> Tensor:
        _divides(self.factor, n)
        eye = torch.eye(n // self.factor, dtype=torch.float64)
        return eye.repeat_interleave(self.factor, 1) / self.factor


class BicubicDown(Separable):
    r"""Antialiased bicubic reduction: the Keys kernel (a = -1/2) stretched to 4 factor taps, stride factor.

    Its published back-projection is A' y factor^2, which is not a pseudo-inverse; :meth:`pinv` is the exact one.

    Args:
        factor: How many times smaller, at least 2.
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].

    Source: R. Keys, Cubic convolution interpolation for digital image processing, IEEE TASSP 29 (1981).
    """

    def __init__(self, factor: int = 4, noise: float = 0.01) -> None:
        super().__init__(noise)
        self.factor = _factor(factor)

    @property
    def back_projection_is(self) -> Literal["pseudo-inverse", "scaled adjoint", "adjoint"]:
        return "scaled adjoint"

    def back_projection(self, y: Tensor, shape: Shape) -> Tensor:
        return self.adjoint(y, shape) * self.factor**2

    def picture_shape(self, shape: Shape) -> Shape:
        return shape[0], shape[1] * self.factor, shape[2] * self.factor

    def matrix(self, n: int) -> Tensor:
        _divides(self.factor, n)
        s, middle = self.factor, (self.factor - 1) / 2
        first = math.floor(middle) - 2 * s + 1
        d = ((torch.arange(first, first + 4 * s, dtype=torch.float64) - middle) / s).abs()
        near = 1.5 * d**3 - 2.5 * d**2 + 1
        far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        weights = torch.where(d < 1, near, far)
        return _banded(torch.arange(0, n, s)[:, None] + first, weights / weights.sum(), n)


class GaussianBlur(Separable):
    """Convolution with a Gaussian; the picture is mirrored at its edges.

    Args:
        std: Standard deviation in pixels, above 0.
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].
    """

    def __init__(self, std: float = 1.5, noise: float = 0.01) -> None:
        super().__init__(noise)
        self.keep_positive("std", std)
        self.std = std

    def matrix(self, n: int) -> Tensor:
        reach = math.ceil(4 * self.std)
        taps = torch.arange(-reach, reach + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (taps / self.std) ** 2)
        return _banded(torch.arange(n)[:, None] - reach, weights / weights.sum(), n)


def _banded(first: Tensor, weights: Tensor, n: int) -> Tensor:
    """Rows that hold `weights` from column first[i] on; columns outside are mirrored at the edges (edge repeated)."""
    columns = (first + torch.arange(len(weights))) % (2 * n)
    columns = torch.where(columns < n, columns, 2 * n - 1 - columns)
    out = torch.zeros(len(first), n, dtype=torch.float64)
    return out.scatter_add_(1, columns, weights.expand(len(first), -1).contiguous())


def _factor(factor: int) -> int:
    if factor < 2:
        raise InputError(f"factor is {factor}: a picture is made at least 2 times smaller")
    return factor


def _divides(factor: int, n: int) -> None:
    if n % factor:
        raise InputError(f"factor is {factor}, which does not divide a side of {n} pixels: crop or pad the picture")
