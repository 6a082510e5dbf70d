r"""The best K-step grid of a flow: one-step Euler errors measured along fine trajectories, then a dynamic programme.

The functions work on any field; :class:`FitBellman` runs them on a flow, under its guidance. Convention: t=0 is the
source, t=1 the data, v = dx/dt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advect.batch import Batch
from advect.errors import InputError
from advect.fields import Run, bind, kind_of
from advect.fitting.base import Fit
from advect.flow import Flow
from advect.parts import Part
from advect.randomness import NumberedGenerator, generator, randint
from advect.sampler import guidance_text
from advect.solvers import Euler, start_state
from advect.solvers.base import GridLike
from advect.solvers.base import nodes as grid_nodes
from advect.times import BellmanGrid, Grid, TimeGrid

KEPT_BYTES = 2**31  # trajectories beyond this are kept in the memory of the host
CHUNK_BYTES = 2**26  # pair differences that are held at once


def bellman_costs(
    f: Callable[..., Any], x0: Tensor, grid: GridLike = 100, *, batch_size: int = 100, run: Run | None = None
) -> Tensor:
    r"""The squared error of one Euler step between any two nodes of a fine grid, measured on one fine run per sample.

        x_{i+1} = x_i + (t_{i+1} - t_i) v_i,   v_i = v(x_i, t_i)
        c[i, j] = mean over samples of |x_i + (t_j - t_i) v_i - x_j|^2,  summed over all coordinates,  for i < j

    All x_i lie on the same fine trajectory, so this is a local error, not an accumulated one. c[i, i+1] = 0 by
    construction, a bias that does no harm while the fine grid has many more steps than the grids chosen from it. The
    squares are averaged, as published; the mean of the norms would give other grids. F calls per batch, no more.

    Args:
        f: A velocity field ``f(x, t)``, bound or plain; a guided one where it is used guided.
        x0: Start states at the grid's first time, (n, *shape).
        grid: The fine grid of F steps, rising: a Grid, a number of uniform steps, or a list of times.
        batch_size: Samples that run together; sums are added up over the batches.
        run: Counters.

    Returns:
        c (F+1, F+1), float64, zero on and below the diagonal.

    Raises:
        InputError: If f is a flow map, whose one step has no truncation error, or the grid falls.

    Source: BOSS, arXiv 2312.16414, section 3.
    """
    if (kind := kind_of(f)) != "field":
        raise InputError(
            f"the model is a {kind}: a Bellman grid balances the errors of Euler steps, and its step has none of them"
        )
    times = _rising(grid)
    total = torch.zeros(len(times), len(times), dtype=torch.float64, device=x0.device)
    for start in x0.split(batch_size):
        total += _sums(f, start, times, Run() if run is None else run)
    return total / len(x0)


@dataclass(frozen=True)
class FitBellman(Fit):
    """Find the best grid of K Euler steps for a flow (BOSS, without training).

    The costs are those of the flow's velocity under the guidance of its sampler, and the grid remembers both. Classes
    that are not given, nor come with data, are drawn evenly.

    Args:
        steps: K; the grid gives any other number of steps too.
        fine: The fine grid; its nodes are the candidates. Several times the steps that are wanted.
        n: Trajectories that are averaged.
        batch_size: Trajectories that run together.
        from_data: Start from data that are carried back to the source, not from draws of the source.

    Source: BOSS, arXiv 2312.16414: fine grid of 100 steps, 100 trajectories.
    """

    steps: int = 8
    fine: Grid = TimeGrid(100)
    n: int = 100
    batch_size: int = 100
    from_data: bool = False

    def __post_init__(self) -> None:
        if self.n < 1 or self.batch_size < 1:
            raise InputError(f"n is {self.n} and batch_size {self.batch_size}: both are at least 1")
        if not 1 <= self.steps <= self.fine.steps:
            raise InputError(
                f"steps is {self.steps}, and the fine grid has {self.fine.steps}: give 1 to {self.fine.steps}"
            )

    @property
    def name(self) -> str:
        return "bellman"

    @property
    def needs_data(self) -> bool:
        return self.from_data

    @torch.no_grad()
    def __call__(
        self,
        flow: Flow | None,
        data: Batch | None = None,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
    ) -> BellmanGrid:
        if flow is None:
            raise InputError("flow is None: a Bellman grid is found by running one")
        if flow.kind != "field":
            raise InputError(
                f"the network is a {flow.kind}: a Bellman grid balances the errors of Euler steps, and its step has "
                "none of them"
            )
        if self.from_data and data is None:
            raise InputError("from_data is true, but there are no data: pass some")
        path, rules = flow.transport.interpolant, flow.sampler.guidance
        times = _rising(self.fine, path)
        told = _conditions(flow, data, cond or {}, self.n, seed)
        total = torch.zeros(len(times), len(times), dtype=torch.float64, device=flow.device)
        for first in range(0, self.n, self.batch_size):
            index = torch.arange(first, min(first + self.batch_size, self.n))
            given: dict[str, Any] = {name: value[index].to(flow.device) for name, value in told.items()}
            run = Run(NumberedGenerator(seed, "bellman", first=first, count=len(index)))
            with flow.evaluating():
                f = flow.bind(run, guidance=rules, **given)
                if self.from_data:
                    assert data is not None
                    x1 = data.x1[index % len(data)].to(flow.device, flow.dtype)
                    start = Euler()(f, flow.codec.encode(x1), times[::-1], run)
                else:
                    source = flow.sampler.source or flow.transport.source
                    shape = (len(index), *flow.shape)
                    x0 = source.sample(shape, given, run.generator, dtype=flow.dtype, device=flow.device)
                    start = start_state(x0, times[0], path)
                total += _sums(f, start, times, run)
        return BellmanGrid.from_costs(
            (total / self.n).cpu(),
            times,
            self.steps,
            fitted_on=flow.weights_hash(),
            fitted_under=guidance_text(rules),
            samples=self.n,
        )

    def summary(self, part: Part) -> list[str]:
        assert isinstance(part, BellmanGrid)
        lines = [f"{part.steps} Euler steps at t = {', '.join(f'{t:g}' for t in part.times())}"]
        for steps in sorted({k for k in (2, 4, 6, 8, 10, 15, 20, part.steps) if k <= part.fine}):
            best, even = part.with_steps(steps), part.cost_of(even_path(steps, part.fine))
            lines.append(f"{steps} steps: sum of one-step errors {best.value():.4g}, even steps {even:.4g}")
        lines.append(f"sample with --fitted {self.name} --solver Euler, and --steps for another number")
        return lines


def even_path(steps: int, fine: int) -> list[int]:
    """Node numbers of equal steps on a fine grid, rounded: the grid to compare with."""
    return [round(i * fine / steps) for i in range(steps + 1)]


class _Kept:
    """A bound field that keeps every state it is asked about, and its answer."""

    is_bound = True

    def __init__(self, f: Callable[..., Any], where: torch.device) -> None:
        self.f, self.where = f, where
        self.states: list[Tensor] = []
        self.velocities: list[Tensor] = []

    def __call__(self, x: Tensor, t: Tensor | float, step: Any = None) -> Tensor:
        v = self.f(x, t, step=step)
        self.states.append(x.to(self.where))
        self.velocities.append(v.to(self.where, x.dtype))
        return v


@torch.no_grad()
def _sums(f: Callable[..., Any], start: Tensor, times: list[float], run: Run) -> Tensor:
    """The sums over the samples of one batch of |x_i + (t_j - t_i) v_i - x_j|^2, (F+1, F+1)."""
    last = len(times) - 1
    large = (2 * last + 1) * start.numel() * start.element_size() > KEPT_BYTES
    kept = _Kept(bind(f, run), torch.device("cpu") if large else start.device)
    end = Euler()(kept, start, times, run)
    states = [*kept.states, end.to(kept.where)]
    chunk = max(1, CHUNK_BYTES // max(1, start.numel() * start.element_size()))
    # .to: where the trajectory is kept by the host, the differences are still taken on the device
    t = torch.tensor(times, dtype=torch.float64)
    sums = torch.zeros(last + 1, last + 1, dtype=torch.float64, device=start.device)
    for i in range(last):
        x, v = states[i].to(start.device), kept.velocities[i].to(start.device)
        for j in range(i + 1, last + 1, chunk):
            ends = torch.stack(states[j : j + chunk]).to(start.device)
            h = (t[j : j + chunk] - t[i]).to(ends).reshape(-1, *[1] * x.ndim)
            error = torch.addcmul(x, h, v).sub_(ends)
            sums[i, j : j + chunk] = error.flatten(1).square_().sum(1, dtype=torch.float64)
    return sums


def _rising(grid: GridLike, path: Any = None) -> list[float]:
    times, _ = grid_nodes(grid, path)
    if times[0] >= times[-1]:
        raise InputError(f"the fine grid runs from t={times[0]:g} to t={times[-1]:g}: it runs from source to data")
    return times


def _conditions(flow: Flow, data: Batch | None, given: Mapping[str, Any], n: int, seed: int) -> dict[str, Tensor]:
    """Conditions of the trajectories: those given, those of the data (counted round), or classes drawn evenly."""
    out: dict[str, Tensor] = {}
    for item in flow.conditions.items:
        if item.name in given:
            value = torch.as_tensor(given[item.name])
            rows = value[None] if value.ndim == (0 if item.discrete else 1) else value
            out[item.name] = rows[torch.arange(n) % len(rows)].cpu()
        elif data is not None and item.name in data.cond:
            out[item.name] = data.cond[item.name][torch.arange(n) % len(data)].cpu()
        elif item.discrete:
            out[item.name] = randint(item.width, (n,), generator(seed, "bellman", item.name))
        else:
            raise InputError(f"the flow is told {item.name}, which cannot be drawn here: pass cond= or data with it")
    return flow.conditions.check(out) if out else out
