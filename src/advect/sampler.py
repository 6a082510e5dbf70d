"""How a Flow is sampled by default: solver, grid, source, guidance, projection."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advect.guidance import Guidance
from advect.parts import Part
from advect.solvers import Heun, Solver
from advect.sources import Source
from advect.times import Grid, TimeGrid


@dataclass(frozen=True)
class Sampler(Part):
    """What `advect tune` finds and a Flow keeps.

    Args:
        solver: How it is integrated.
        grid: At which times.
        source: Who is at t=0 when sampling, if not the training source.
        guidance: Rules applied in this order.
    """

    solver: Solver = Heun()
    grid: Grid = TimeGrid(25)
    source: Source | None = None
    guidance: tuple[Guidance, ...] = ()

    def but(self, **changes: object) -> Sampler:
        """A copy in which every argument that is not None is changed; `steps` changes the grid's number of steps."""
        steps = changes.pop("steps", None)
        given = {name: value for name, value in changes.items() if value is not None}
        out = replace(self, **given)  # pyright: ignore[reportArgumentType]
        return out if steps is None else replace(out, grid=out.grid.with_steps(steps))  # pyright: ignore[reportArgumentType]
