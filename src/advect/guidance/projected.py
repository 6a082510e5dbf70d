"""Rules that look at lengths and angles; they depend on the prediction they act on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, Step
from advect.guidance.base import Guidance, Rule, Space
from advect.guidance.rules import acts, extrapolate, spread


def _share_along(y: Tensor, direction: Tensor) -> Tensor:
    """<y, direction> / <direction, direction> per sample, shaped to multiply y; 0 where the direction vanishes."""
    dot = torch.linalg.vecdot(y.flatten(1), direction.flatten(1))
    norm = torch.linalg.vecdot(direction.flatten(1), direction.flatten(1))
    share = torch.where(norm > 0, dot / norm, 0.0)
    return share.reshape(-1, *([1] * (y.ndim - 1)))


@dataclass(frozen=True)
class CFGZeroStar(Guidance):
    """c v_null + w (v_c - c v_null) with c = <v_c, v_null>/|v_null|^2 per sample, and no velocity in the first steps.

    Args:
        scale: w; 1 is plain sampling. In code a tensor (B,) gives each sample its own.
        zero_steps: How many first steps of the grid stand still.

    Source: arXiv 2503.18886, algorithm 1.
    """

    scale: float = 3.0
    zero_steps: int = 0

    def __post_init__(self) -> None:
        if self.zero_steps < 0:
            raise InputError(f"zero_steps is {self.zero_steps}: the number of steps that stand still is at least 0")

    def needs_null(self, t: float) -> bool:
        return acts(self.scale) or self.zero_steps > 0

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        if step is not None and step.index < self.zero_steps:
            return torch.zeros_like(v_c)
        return extrapolate(v_c, _share_along(v_c, v_null) * v_null, self.scale)


@dataclass(frozen=True)
class APG(Guidance):
    r"""D_c + (w - 1) (d_orthogonal + eta d_parallel) in the data prediction, d = D_c - D_null split along D_c.

    d may carry momentum, d <- d + momentum d_before, and its length per sample is kept below `radius`.

    Args:
        scale: w; 1 is plain sampling. In code a tensor (B,) gives each sample its own.
        eta: Share of the parallel part, which saturates colours; 1 is CFG.
        radius: Longest d; None for no limit.
        momentum: Weight of the sum so far at each call of the model; the paper takes negative ones, 0 for none.

    Source: APG, arXiv 2410.02416, algorithm 1.
    """

    scale: float = 3.0
    eta: float = 0.0
    radius: float | None = None
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if self.radius is not None and not self.radius > 0:
            raise InputError(f"radius is {self.radius}: the longest difference is above 0, or None for no limit")
        if not abs(self.momentum) < 1:
            raise InputError(f"momentum is {self.momentum}: it lies between -1 and 1")

    @property
    def acts_on(self) -> Space:
        return "x1"

    def needs_null(self, t: float) -> bool:
        return acts(self.scale)

    def begin(self) -> Rule:
        if self.momentum == 0.0:
            return self
        total: Tensor | None = None

        def remembering(v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
            nonlocal total
            difference = v_c - v_null
            total = difference if total is None else difference.add(total, alpha=self.momentum)
            return self._projected(v_c, total)

        return remembering

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        return self._projected(v_c, v_c - v_null)

    def _projected(self, data: Tensor, difference: Tensor) -> Tensor:
        if self.radius is not None:
            length = torch.linalg.vector_norm(difference.flatten(1), dim=1)
            shrink = torch.where(length > self.radius, self.radius / length, 1.0)
            difference = difference * spread(shrink, difference)
        parallel = _share_along(difference, data) * data
        update = difference - parallel if self.eta == 0.0 else difference + (self.eta - 1) * parallel
        return data + (spread(self.scale, data) - 1) * update
