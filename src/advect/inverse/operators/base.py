r"""The seat "how it was degraded": a known linear operator A with its adjoint, and the noise of its measurements.

y = A x + noise * eps, with x a picture (B, C, H, W) in [-1, 1] and y of whatever shape the operator gives. Everything
works on batches, on any device and in float32 or float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import randn_like

Shape = tuple[int, ...]


class Operator(ModulePart, ABC):
    r"""A linear degradation y = A x + noise * eps.

    Args:
        noise: Standard deviation of the measurement's noise, in units of pixels in [-1, 1], at least 0.

    Raises:
        InputError: If the noise is negative.
    """

    def __init__(self, noise: float = 0.01) -> None:
        super().__init__()
        if not noise >= 0:
            raise InputError(f"noise is {noise}: the standard deviation of a measurement's noise is at least 0")
        self.noise = noise

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """A x without noise: pictures (B, C, H, W) to measurements (B, *output_shape)."""

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the measurement of one picture of `shape` (C, H, W).

        Raises:
            InputError: If the operator does not fit pictures of this shape.
        """

    def picture_shape(self, shape: Shape) -> Shape:
        """Shape of the picture to restore, from that (C, h, w) of the picture file that shows its measurement."""
        return shape

    def measurement_of(self, shown: Tensor) -> Tensor:
        """The measurement that a picture file shows, (B, C, h, w) to (B, *m): the file itself, where it is one."""
        return shown

    @property
    def gram(self) -> float | None:
        """c where A A' = c I for every picture, else None."""
        return None

    def adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        """A' y, pictures (B, *shape): <A x, y> = <x, A' y>. Gradients reach y."""
        wanted = torch.is_grad_enabled() and y.requires_grad
        with torch.enable_grad():
            # the gradient of <A x, y> is A' y at every x, because A is linear
            x = torch.zeros(len(y), *shape, dtype=y.dtype, device=y.device, requires_grad=True)
            return torch.autograd.grad(self(x), x, y, create_graph=wanted)[0]

    @property
    def back_projection_is(self) -> Literal["pseudo-inverse", "scaled adjoint", "adjoint"]:
        """What :meth:`back_projection` is, by its right name."""
        return "adjoint" if self.gram is None else "pseudo-inverse"

    def back_projection(self, y: Tensor, shape: Shape) -> Tensor:
        """A cheap first picture (B, *shape) from a measurement; what it is says `back_projection_is`."""
        x = self.adjoint(y, shape)
        return x if self.gram is None else x / self.gram

    def solve(self, y: Tensor, a: float, b: float, shape: Shape) -> Tensor:
        """(a A A' + b I)^-1 y, by conjugate gradients unless the operator knows better; a, b >= 0."""
        if self.gram is not None:
            return y / (a * self.gram + b)
        return _conjugate_gradients(lambda z: a * self(self.adjoint(z, shape)) + b * z, y)

    def pinv(self, y: Tensor, shape: Shape) -> Tensor:
        """A^+ y, the shortest picture that explains y: exact, or by at most 200 conjugate gradient steps."""
        return self.adjoint(self.solve(y, 1.0, 0.0, shape), shape)

    def norm_squared(self, shape: Shape) -> float:
        """The largest eigenvalue of A' A: step sizes of gradients of ||A x - y||^2 are in units of its inverse."""
        if self.gram is not None:
            return self.gram
        return _largest(self, shape)

    def measure(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A x + noise * eps."""
        self.output_shape(tuple(x.shape[1:]))
        y = self(x)
        return y + self.noise * randn_like(y, generator) if self.noise else y

    def keep_positive(self, name: str, value: float) -> None:
        """Refuse a setting that is not above 0."""
        if not value > 0:
            raise InputError(f"{name} is {value}: it is above 0")


def picture_sides(operator: Operator, shape: Shape) -> tuple[int, int]:
    """Height and width of a picture's shape; refuses what is no picture."""
    if len(shape) != 3:
        raise InputError(f"{type(operator).__name__} takes pictures (C, H, W), not samples of shape {tuple(shape)}")
    return shape[1], shape[2]


@torch.no_grad()
def _largest(operator: Operator, shape: Shape, iterations: int = 60) -> float:
    """The largest eigenvalue of A' A by the power method, from a start that is the same at every call."""
    weight = next(operator.buffers(), torch.zeros(()))
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(weight)
    size = x.new_zeros(())
    for _ in range(iterations):
        x = operator.adjoint(operator(x / x.norm()), shape)
        size = x.norm()
    return float(size)


def _conjugate_gradients(
    apply: Callable[[Tensor], Tensor], y: Tensor, iterations: int = 200, tolerance: float = 1e-6
) -> Tensor:
    """Solve for each sample a symmetric positive system; stops when every residual is below the tolerance."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(1).sum(1).reshape(-1, *([1] * (y.ndim - 1)))

    x, r = torch.zeros_like(y), y.clone()
    p, old = r, dot(r, r)
    goal = old * tolerance**2
    for _ in range(iterations):
        if bool((old <= goal).all()):
            break
        q = apply(p)
        curvature = dot(p, q)
        # a sample that is solved has p = 0: it stays where it is
        step = torch.where(curvature > 0, old / curvature, torch.zeros_like(old))
        x, r = x + step * p, r - step * q
        new = dot(r, r)
        p = r + torch.where(old > 0, new / old, torch.zeros_like(old)) * p
        old = new
    return x
