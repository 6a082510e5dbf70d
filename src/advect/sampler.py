"""How a Flow is sampled by default: solver, grid, source, guidance, projection."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral

from advect.errors import InputError, expect
from advect.fields import Kind
from advect.guidance import Guidance
from advect.interpolants import ChainProcess, Interpolant
from advect.parts import Part, class_path, config_of, parts_in
from advect.solvers import ChainSolver, FlowMapJumps, Heun, Solver
from advect.sources import Source
from advect.times import BellmanGrid, CustomGrid, Grid, TimeGrid


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
        for name, value in given.items():
            _refuse_other_kind(name, value)
        if steps is not None and not isinstance(steps, Integral):
            raise InputError(f"steps is {steps!r}: give a whole number")
        out = replace(self, **given)  # pyright: ignore[reportArgumentType]
        return out if steps is None else replace(out, grid=out.grid.with_steps(steps))  # pyright: ignore[reportArgumentType]

    @classmethod
    def for_kind(cls, kind: Kind, path: Interpolant | None = None) -> Sampler:
        """What a model of this kind, trained on this path, is sampled with unless something else is said."""
        if kind == "kernel":
            times = path.times if isinstance(path, ChainProcess) else None
            return cls(ChainSolver(), TimeGrid(8) if times is None else CustomGrid(times))
        return cls(FlowMapJumps(), TimeGrid(1)) if kind == "flow map" else cls()

    def check(self, kind: Kind, weights: Callable[[], str]) -> None:
        """Refuse a solver for another kind of model, and parts that were fitted on other weights.

        Args:
            kind: The kind of model that is sampled.
            weights: Gives the hash of its weights; called only if a part was fitted.
        """
        if self.solver.takes != kind:
            default = Sampler.for_kind(kind).solver
            raise InputError(
                f"solver is {type(self.solver).__name__}, which integrates a {self.solver.takes}, but the network is "
                f"a {kind}: take {type(default).__name__}"
            )
        for part in (part for part in parts_in(self) if part.fitted_on is not None):
            if part.fitted_on != (own := weights()):
                raise InputError(
                    f"{class_path(type(part))} was fitted on a flow whose weights have the hash "
                    f"{str(part.fitted_on)[:12]}, and those of this flow have {own[:12]}: fit it again on this flow "
                    "with advect calibrate (weights that are opened in another type count as others)"
                )
        grid = self.grid
        if isinstance(grid, BellmanGrid) and grid.fitted and grid.fitted_under != guidance_text(self.guidance):
            warnings.warn(
                f"the grid was fitted under the guidance {grid.fitted_under or 'none'} and is used under "
                f"{guidance_text(self.guidance) or 'none'}: guidance bends the trajectories, so fit it again under it",
                stacklevel=2,
            )

    def warn_of_other_rule(self, kept: Sampler) -> None:
        """Warn of a grid that balances the errors of another solver, unless the flow keeps the two together.

        Args:
            kept: The flow's own sampler: what `advect tune` has measured and put there is no accident.
        """
        rule, own = self.grid.found_for, type(self.solver).__name__
        if (
            rule not in (None, own)
            and not self.solver.stochastic
            and (self.solver, self.grid) != (kept.solver, kept.grid)
        ):
            warnings.warn(
                f"the grid balances the errors of {rule}'s steps, and the solver is {own}, whose steps have others: "
                f"take --solver {rule}, or measure whether it helps",
                stacklevel=2,
            )


def _refuse_other_kind(seat: str, value: object) -> None:
    """A name, a class or a number in the place of a part is told what belongs there."""
    kind, like = {
        "solver": (Solver, "Heun()"),
        "grid": (Grid, "TimeGrid(20)"),
        "source": (Source, "Gaussian()"),
        "guidance": (Guidance, "CFG(2.0)"),
    }[seat]
    for part in value if isinstance(value, (tuple, list)) and seat == "guidance" else (value,):
        expect(seat, part, kind, like)


def guidance_text(rules: tuple[Guidance, ...]) -> str | None:
    """Guidance rules as text, to be compared and kept beside what was fitted under them; None for none."""
    return json.dumps(config_of(rules)) if rules else None
