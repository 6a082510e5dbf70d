r"""Replacement: at every step the part of the predicted data that was measured is replaced by the measurement."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from advect.inverse.base import InverseMethod, Problem
from advect.inverse.renoise import FixedShare, Renoise
from advect.times import Grid, TimeGrid


@dataclass(frozen=True)
class Replacement(InverseMethod):
    r"""x1 <- E(D x1hat + A'(A A' + noise^2)^-1 (y - A D x1hat)), then on to the next time with some noise renewed.

    For inpainting this sets the observed pixels, for a reduction the blocks' means. The simplest baseline.

    Args:
        renoise: Which noise is put back; ``FixedShare(1)`` renews none.
        grid: Times.

    Source: arXiv 2011.13456 (appendix I.2) for inpainting, arXiv 2212.00490 for linear operators.
    """

    renoise: Renoise = FixedShare(0.5)
    grid: Grid = TimeGrid(50)

    def solve(self, problem: Problem) -> Tensor:
        operator, codec, shape = problem.operator, problem.codec, problem.shape
        times = self.grid.times(problem.interpolant)
        x = problem.noise()
        for t, later in pairwise(times):
            x0, x1 = problem.ends(x, t)
            picture = codec.decode(x1)
            missing = operator.solve(problem.y - operator(picture), 1.0, operator.noise**2, shape)
            x1 = codec.encode(picture + operator.adjoint(missing, shape), problem.run.generator)
            x = problem.between(self.renoise(x0, problem.noise(), later), x1, later)
        return x
