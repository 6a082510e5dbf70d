r"""A prior for small pictures on a large one: overlapping windows whose velocities are blended at every call.

Operator, data steps and noise see the whole picture, so the windows agree with each other while they are formed, and
no seam has to be hidden afterwards.

Source: arXiv 2302.08113 (MultiDiffusion), here for velocities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, Step, bind


class Tiled:
    """A field on windows of the prior's size as a field on larger states; at that size it is the field itself.

    Args:
        field: The prior, a field ``f(x, t, **cond)`` on states (B, C, *size).
        size: Height and width of the prior's states.
        overlap: How far neighbouring windows overlap at least, in states' pixels: from 0 to below the smaller side.
    """

    def __init__(self, field: Callable[..., Any], size: tuple[int, int], overlap: int = 4) -> None:
        if not 0 <= overlap < min(size):
            raise InputError(f"overlap is {overlap}: windows of {size[1]}x{size[0]} overlap by less than their side")
        self.field, self.size, self.overlap = field, size, overlap

    def bind(self, run: Run, role: str = "model", **cond: Any) -> BoundTiled:
        """Fix the conditions for one trajectory; they are repeated for every window."""
        return BoundTiled(self, run, role, cond)

    def __call__(self, x: Tensor, t: Tensor | float, **cond: Any) -> Tensor:
        return self.bind(Run(), **cond)(x, t)

    def corners(self, sides: tuple[int, int]) -> list[tuple[int, int]]:
        """Top left corners of the windows of a state of these sides."""
        rows, columns = (_starts(n, w, self.overlap) for n, w in zip(sides, self.size, strict=True))
        return [(i, j) for i in rows for j in columns]


class BoundTiled:
    """One trajectory of a tiled field."""

    is_bound = True

    def __init__(self, tiled: Tiled, run: Run, role: str, cond: dict[str, Any]) -> None:
        self.tiled, self.run, self.role, self.cond = tiled, run, role, cond
        self.inner: Callable[..., Any] | None = None
        self.sides: tuple[int, int] = (0, 0)

    def __call__(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Tensor:
        height, width = self.tiled.size
        corners = self.tiled.corners((x.shape[-2], x.shape[-1]))
        if self.inner is None or self.sides != tuple(x.shape[-2:]):
            self.sides = (x.shape[-2], x.shape[-1])
            repeated = {name: torch.cat([value] * len(corners)) for name, value in self.cond.items()}
            self.inner = bind(self.tiled.field, self.run, role=self.role, **repeated)
        if len(corners) == 1:
            return self.inner(x, t, step=step)
        if isinstance(t, Tensor) and t.ndim:
            t = torch.cat([t] * len(corners))
        cut = torch.cat([x[..., i : i + height, j : j + width] for i, j in corners])
        found = self.inner(cut, t, step=step).chunk(len(corners))
        ramp = _ramp(height, x)[:, None] * _ramp(width, x)[None]
        total, weight = torch.zeros_like(x), torch.zeros_like(x[0, 0])
        for (i, j), v in zip(corners, found, strict=True):
            total[..., i : i + height, j : j + width] += ramp * v
            weight[i : i + height, j : j + width] += ramp
        return total / weight


def _starts(n: int, window: int, overlap: int) -> list[int]:
    if n < window:
        raise InputError(
            f"a state of {n} is smaller than the prior's {window}: "
            "this prior restores pictures of its own size and larger"
        )
    last, stride = n - window, window - overlap
    count = -(-last // stride)
    # evenly spread, so that all overlaps are alike
    return [round(k * last / count) for k in range(count + 1)] if count else [0]


def _ramp(n: int, like: Tensor) -> Tensor:
    """Weights of a window along one side: a triangle, above 0 everywhere."""
    up = torch.arange(1, n + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(up, up.flip(0))
