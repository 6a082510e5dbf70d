"""What all parts compare: where a few Euler steps of a grid end, and where the flow itself ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from advect import interpolants
from advect.flow import Flow
from advect.solvers import Euler, start_state
from advect.systems.framework import Figures
from advect.times import BellmanGrid, EDMGrid, Grid, TimeGrid

CHOSEN = (4, 6, 8, 10)
OWN = "mean distance to the flow's own end of 100 Euler steps"
EVEN, ALONE, STRAIGHT = "even steps", "Bellman grid, no training", "straightened on the Bellman grid"


def grids(bellman: BellmanGrid) -> dict[str, Grid]:
    """The Bellman grid and the two it is compared with, each for any number of steps."""
    return {"even": TimeGrid(bellman.steps), "EDM": EDMGrid(bellman.steps), "Bellman": bellman}


def euler(field: Callable[..., Tensor], x0: Tensor, grid: Grid) -> Tensor:
    """Euler from given starts, which grids that begin later than 0 place on the path."""
    path = interpolants.Linear()
    times = grid.times(path)
    return Euler()(field, start_state(x0, times[0], path), times)


def run(flow: Flow, x0: Tensor, grid: Grid) -> Tensor:
    """Euler with the network alone: the grids that a flow would warn of are measured on purpose."""
    with torch.no_grad(), flow.evaluating():
        return euler(flow.bind(), x0, grid)


def own_end(flow: Flow, x0: Tensor) -> Tensor:
    """Where 100 even Euler steps end."""
    return run(flow, x0, TimeGrid(100))


def distance(x: Tensor, end: Tensor) -> float:
    """Mean Euclidean distance of the same samples at two ends."""
    return float((x - end).flatten(1).norm(dim=1).mean())


def errors(
    field: Callable[..., Tensor], x0: Tensor, end: Tensor, bellman: BellmanGrid, steps: Sequence[int]
) -> Figures:
    """Mean distance to the end, by grid and number of steps."""
    arms = {
        name: [distance(euler(field, x0, grid.with_steps(k)), end) for k in steps]
        for name, grid in grids(bellman).items()
    }
    return Figures(steps, arms)
