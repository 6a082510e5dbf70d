r"""The artefact: trained networks with the transport they were trained on, ready to sample, encode and save.

Convention: t=0 is the source, t=1 the data, v = dx/dt, batch first. Samples are in data units, states in the codec's.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.fields import Run
from advect.flow_base import FlowBase
from advect.parts import Part
from advect.randomness import NumberedGenerator
from advect.sampler import Sampler
from advect.solvers import Euler, Trajectory, likelihood, start_state
from advect.solvers.base import nodes as grid_nodes
from advect.times import Grid

if TYPE_CHECKING:
    from advect.guidance import Guidance
    from advect.solvers import GridLike, Solver
    from advect.sources import Source

Project = Callable[[Tensor, float], Tensor]


class Flow(FlowBase):
    """Networks by role, and everything that sampling needs.

    Args:
        network: The model: a network of advect (it knows its shape) or any callable ``f(x, t, **cond)``.
        transport: Source, coupling, interpolant it was trained with.
        codec: Between data and state.
        conditions: The conditions it is told.
        sampler: The default way to sample.
        shape: Shape of one state; read from ``network.spec`` if there is one.
        others: Further networks by role ("score", "refiner", ...).
        record: How it was made, in plain JSON values: recipe, seed, class names. Saved with it, read by nobody else.

    Attributes:
        fitted: Parts that were found later, by running the model, by name. Saved each in its own folder.
    """

    @overload
    def sample(self, n: int, *, record: Literal[False] = ..., **options: Any) -> Tensor: ...
    @overload
    def sample(self, n: int, *, record: Literal[True], **options: Any) -> Trajectory: ...
    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        first: int = 0,
        generator: torch.Generator | None = None,
        batch_size: int = 512,
        x0: Tensor | None = None,
        run: Run | None = None,
        solver: Solver | None = None,
        grid: GridLike | None = None,
        steps: int | None = None,
        source: Source | None = None,
        guidance: tuple[Guidance, ...] | Guidance | None = None,
        project: Project | None = None,
        record: bool = False,
        **cond: Any,
    ) -> Tensor | Trajectory:
        """Draw samples in data units.

        With `seed`, sample i depends on the seed and i alone, whatever the batch size or number of processes, also
        under a stochastic solver (an adaptive solver chooses its steps per batch, within its tolerance).

        Args:
            n: How many.
            seed: Seed; without it (and without `generator`) torch's global generator is used.
            first: Number of the first sample: ``sample(8, seed=0)[5:]`` is ``sample(3, seed=0, first=5)``.
            generator: A generator to draw from instead of a seed.
            batch_size: Samples that are integrated together.
            x0: Start states (n, *shape) instead of draws from the source.
            run: Takes up the counts: calls as of one trajectory, rows of all.
            solver: Another solver than the sampler's; likewise `grid`, `source`, `guidance`.
            grid: A Grid, a number of uniform steps, or a list of times.
            steps: The sampler's grid with another number of steps.
            source: Who is at t=0.
            guidance: A rule, or several in the order of application; () switches guidance off.
            project: ``project(x, t) -> x`` after each step, on states.
            record: Return the :class:`~advect.solvers.Trajectory` in state units instead.
            cond: Conditions by name: one value for all (``label=3``) or n of them. One that is not given is null.

        Raises:
            InputError: If a condition is unknown, has the wrong shape, or is missing and was never dropped in training.
        """
        if not (isinstance(n, Integral) and n >= 1 and isinstance(batch_size, Integral) and batch_size >= 1):
            raise InputError(f"n is {n} and batch_size {batch_size}: both are whole numbers of at least 1")
        rules = (guidance,) if isinstance(guidance, Part) else guidance
        if steps is not None and not (grid is None or isinstance(grid, Grid)):
            raise InputError(f"steps is {steps} and grid is {grid}, which fixes the steps: give one of them")
        own = grid if isinstance(grid, Grid) else None
        sampler = self.sampler.but(solver=solver, grid=own, source=source, guidance=rules, steps=steps)
        nodes = sampler.grid if grid is None or isinstance(grid, Grid) else grid
        self.check(sampler)
        if nodes is not self.sampler.grid or sampler.solver != self.sampler.solver:
            # its own sampler is no mistake: advect tune has measured what it put there
            self._warn_of_other_grid(sampler.solver, nodes)
        given = self.told(n, cond)
        if self.conditions.items and not cond and any(rule.against == "null" for rule in sampler.guidance):
            warnings.warn(
                "guidance compares with the null condition, and no condition is given: it changes nothing, so pass "
                f"{' or '.join(item.name for item in self.conditions.items)}",
                stacklevel=2,
            )
        if x0 is not None and tuple(x0.shape) != (n, *self.shape):
            raise InputError(f"x0 has shape {tuple(x0.shape)}, but n and the flow's state ask for {(n, *self.shape)}")
        if generator is None and run is not None and seed is None:
            generator = run.generator
        total = Run()
        outs: list[Any] = []
        with self.evaluating():
            for start in range(0, n, batch_size):
                stop = min(start + batch_size, n)
                if seed is not None:
                    generator = NumberedGenerator(seed, "sample", first=first + start, count=stop - start)
                part = Run(generator)
                outs.append(
                    self._integrate(
                        stop - start,
                        None if x0 is None else x0[start:stop].to(self.device, self.dtype),
                        {name: value[start:stop] for name, value in given.items()},
                        sampler,
                        nodes,
                        part,
                        project,
                        record,
                    )
                )
                _add(total, part)
        if run is not None:
            run.calls.update(total.calls)
            run.rows.update(total.rows)
            for name, values in total.log.items():
                run.log.setdefault(name, []).extend(values)
        if record:
            return Trajectory(
                torch.cat([o.states for o in outs], 1), torch.cat([o.velocities for o in outs], 1), outs[0].times
            )
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    def _integrate(
        self,
        n: int,
        x0: Tensor | None,
        cond: dict[str, Any],
        sampler: Sampler,
        grid: GridLike,
        run: Run,
        project: Project | None,
        record: bool,
    ) -> Tensor | Trajectory:
        source = sampler.source or self.transport.source
        if x0 is None:
            if source.needs_x1:
                raise InputError(
                    f"the source {type(source).__name__} reads the data, so it serves training only: "
                    "pass source= or x0= to sample"
                )
            x0 = source.sample((n, *self.shape), cond, run.generator, dtype=self.dtype, device=self.device)
        field = self.bind(run, guidance=sampler.guidance, **cond)
        context = self.context(run, source, **cond)
        times = grid_nodes(grid, context.interpolant)[0]
        if times[0] > times[-1]:
            raise InputError(
                f"grid runs from t={times[0]:g} to t={times[-1]:g}: sample goes from source to data, encode goes back"
            )
        x0 = start_state(x0, times[0], context.interpolant)
        if record:
            return sampler.solver(field, x0, grid, run, project=project, context=context, record=True)
        return self.codec.decode(sampler.solver(field, x0, grid, run, project=project, context=context))

    def encode(
        self, x: Tensor, *, solver: Solver | None = None, grid: GridLike = 1, run: Run | None = None, **cond: Any
    ) -> Tensor:
        """Carry data (n, *shape) back to the source: the x0 from which :meth:`sample` gives x.

        Args:
            x: Data in data units.
            solver: Any solver without noise; None is DormandPrince (adaptive, 1e-5).
            grid: A Grid, a number of uniform steps, or a list of times, for solvers that need one.
            run: Counters.
            cond: Conditions by name, as in :meth:`sample`.
        """
        self._refuse_kinds_without_way_back()
        self._warn_of_other_grid(solver, grid)
        given, run = self.told(len(x), cond), Run() if run is None else run
        z = self._state(x)
        with self.evaluating():
            return likelihood.encode(self.bind(run, **given), z, solver, grid, run, context=self.context(run, **given))

    def _state(self, x: Tensor) -> Tensor:
        """The codec's state of data, of the shape that the network was built for."""
        if not isinstance(x, Tensor):
            raise InputError(f"x is a {type(x).__name__}: give a tensor, torch.as_tensor(x)")
        z = self.codec.encode(x.to(self.device, self.dtype))
        if tuple(z.shape[1:]) != self.shape:
            raise InputError(
                f"x of shape {tuple(x.shape)} gives states {tuple(z.shape)}, and this flow's are "
                f"(n, {', '.join(map(str, self.shape))}): give samples of its shape, batch first"
            )
        return z

    def log_prob(
        self,
        x: Tensor,
        *,
        divergence: Literal["exact", "hutchinson"] = "exact",
        solver: Solver | None = None,
        grid: GridLike = 1,
        seed: int = 0,
        run: Run | None = None,
        **cond: Any,
    ) -> Tensor:
        r"""Natural log-density of data, in data units: log p1(encode(x)) + log |det d encode / dx|, shape (n,).

        Gradients reach x and the weights where gradients are on.

        Args:
            x: Data (n, *shape).
            divergence: "exact" (as many backward passes as coordinates) or "hutchinson" (one, unbiased).
            solver: Any solver without noise; None is DormandPrince (adaptive, 1e-5).
            grid: A Grid, a number of uniform steps, or a list of times, for solvers that need one.
            seed: Seed of the random probe of "hutchinson", unless the run has a generator.
            run: Counters, and the probe's generator if it has one.
            cond: Conditions by name, as in :meth:`sample`.

        Raises:
            InputError: If the codec does not keep volumes in closed form, or the source has no density.
        """
        self._refuse_kinds_without_way_back()
        self._warn_of_other_grid(solver, grid)
        scale = self.codec.log_abs_det(tuple(x.shape[1:]))
        if scale is None:
            raise InputError(
                f"the codec {type(self.codec).__name__} has no constant volume, so there is no density in data units"
            )
        run = Run() if run is None else run
        probe = NumberedGenerator(seed, "probe", first=0, count=len(x)) if run.generator is None else run.generator
        given = self.told(len(x), cond)
        z = self._state(x)
        with self.evaluating():
            value = likelihood.log_prob(
                self.bind(run, **given),
                z,
                self.transport.source,
                solver,
                grid,
                divergence=divergence,
                generator=probe,
                run=run,
                context=self.context(run, **given),
                cond=given,
            )
        return value + scale

    def bits_per_dim(self, x: Tensor, *, levels: int = 256, seed: int = 0, **options: Any) -> Tensor:
        r"""Bits per dimension of pictures in [-1, 1] that had `levels` integer levels, dequantised with uniform noise.

        Args:
            x: Pictures (n, *shape), on the levels -1, -1 + 2/(levels-1), ..., 1.
            levels: Integer levels: 256 for bytes, 17 for the built-in digits.
            seed: Seed of the noise (and of the random probe).
            options: As in :meth:`log_prob`.
        """
        per_unit = (levels - 1) / 2
        noise = NumberedGenerator(seed, "dequantise", first=0, count=len(x))
        pixels = ((x + 1) * per_unit).round()
        spread = likelihood.dequantise(pixels, noise, per_unit)
        return likelihood.bits_per_dim(self.log_prob(spread, seed=seed, **options), x[0].numel(), per_unit)

    def _warn_of_other_grid(self, solver: Solver | None, grid: GridLike) -> None:
        """A straightened network was trained at the nodes of one grid, for one Euler step from each to the next."""
        if (only := self.transport.only_grid) is None:
            return
        times = grid_nodes(grid, self.transport.interpolant)[0]
        same = len(times) == len(only) and all(abs(a - b) < 1e-6 for a, b in zip(times, only, strict=True))
        if not (same and isinstance(solver, Euler)):
            warnings.warn(
                f"this flow was trained for Euler on the grid {', '.join(f'{t:g}' for t in only)} alone, and is run "
                f"otherwise ({type(solver).__name__ if solver else 'an adaptive solver'}, {len(times) - 1} steps): "
                "leave solver, grid and steps as they are, or take the flow it was made from",
                stacklevel=3,
            )

    def _refuse_kinds_without_way_back(self) -> None:
        if self.kind != "field":
            raise InputError(
                f"the network is a {self.kind}, which gives no way back to the source and no density: train a velocity "
                "field for that"
            )

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``flow.json``, ``model.safetensors`` and ``fitted/`` (see :mod:`advect.saving`)."""
        from advect.saving import save

        save(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        network: nn.Module | None = None,
        device: torch.device | str | None = None,
        trust_remote_code: bool = False,
    ) -> Flow:
        """Read what :meth:`save_pretrained` wrote (see :func:`advect.saving.load`)."""
        from advect.saving import load

        flow = load(folder, network=network, trust_remote_code=trust_remote_code)
        return flow if device is None else flow.to(device)


def _add(total: Run, part: Run) -> None:
    """Batches add rows and logs; the calls stay those of one trajectory."""
    for role, calls in part.calls.items():
        total.calls[role] = max(total.calls[role], calls)
    total.rows.update(part.rows)
    for name, values in part.log.items():
        total.log.setdefault(name, []).extend(values)
