"""Jumps of a flow map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from advect.fields import Kind, Run
from advect.solvers.base import Context, Solver


@dataclass(frozen=True)
class FlowMapJumps(Solver):
    """x' = x + (t - r) u(x, r, t): one call ``f(x, r, t)`` of a model of average velocity per interval of the grid.

    Exact for a true flow map on any grid; a grid of one step is one-step sampling.

    Source: arXiv 2505.13447 (MeanFlow) eq. 12; arXiv 2406.07507 (flow map matching).
    """

    @property
    def takes(self) -> Kind:
        return "flow map"

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        return x.add(f(x, r, t), alpha=t - r), None
