"""A trained flow as the source of another: x0 is where the first flow ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, bind
from advect.networks import Network
from advect.parts import ModulePart
from advect.solvers import Heun, Solver
from advect.sources import Gaussian, Source
from advect.times import Grid, TimeGrid


class FlowSource(ModulePart, Source):
    r"""x0 = Phi_{0 -> 1}(z): a draw z of `source`, carried along a frozen network.

    The weights of the network are part of this source and are saved with the Flow that starts from it. Conditions that
    the network knows are passed on; others are not. There is no score and no density.

    The paper tries such a source to come as close to the data as a model can, and finds it worse than a Gaussian: where
    the first model misses a mode, the second starts without it.

    Args:
        network: A velocity field ``f(x, t, **cond)`` of advect.
        source: Where it starts; a Gaussian by default.
        solver: How it is integrated.
        grid: At which times.

    Source: Lee, Kim, Lee, TMLR 2025, with a continuous normalizing flow (FFJORD) as the first model.
    """

    def __init__(
        self, network: Network, source: Source | None = None, solver: Solver = Heun(), grid: Grid = TimeGrid(10)
    ) -> None:
        super().__init__()
        if solver.stochastic:
            raise InputError(f"solver is {type(solver).__name__}, which draws noise: a flow source takes an ODE solver")
        self.network = network.requires_grad_(False).eval()
        self.source: Source = Gaussian() if source is None else source
        self.solver, self.grid = solver, grid

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is trained around it."""
        return super().train(False)

    @torch.no_grad()
    def sample(
        self,
        shape: Sequence[int],
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        *,
        rows: Tensor | None = None,
        x1: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        known = {item.name for item in self.network.spec.conditions}
        given: dict[str, Any] = {name: value for name, value in (cond or {}).items() if name in known}
        z = self.source.sample(shape, cond, generator, rows=rows, x1=x1, dtype=dtype, device=device)
        return self.solver(bind(self.network, Run(generator), **given), z, self.grid)

    @property
    def needs_x1(self) -> bool:
        return self.source.needs_x1
