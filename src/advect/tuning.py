r"""The best sampler for a budget of network evaluations: searched on some seeds, confirmed on others.

A sample may cost N evaluations of the network (rows: a guided pair counts as two). Solvers, grids (uniform, shifted,
Bellman), sources (the flow's own, pruned) and guidance are searched one after the other on held-out data. The best of
many candidates looks better than it is, so the winner is measured again on fresh seeds beside the default, and only
what is better there replaces it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from advect.batch import Batch
from advect.errors import InputError
from advect.fitting.bellman import FitBellman
from advect.fitting.pruned_axes import FitPrunedSource
from advect.flow import Flow
from advect.guidance import CFG
from advect.metrics import Estimate, Metric
from advect.rehearsal import rehearse
from advect.report.measure import measure, with_calls
from advect.sampler import Sampler
from advect.solvers import AB2, DDIM, DPMpp2M, EDMHeun, Euler, EulerLast, Heun, Midpoint, Solver, UniPC
from advect.times import BellmanGrid, Grid, ShiftedGrid, TimeGrid

SOLVERS: tuple[Solver, ...] = (Euler(), AB2(), DPMpp2M(), UniPC(), DDIM(), Midpoint(), EulerLast(Heun()), EDMHeun())
SHIFTS = (0.5, 2.0, 3.0)
SCALES = (1.25, 1.5, 2.0, 3.0)
ACCEPTED = (0.8, 0.5)


@dataclass(frozen=True)
class Candidate:
    """One sampler that was measured.

    Attributes:
        name: What it is, in words.
        sampler: The sampler.
        evaluations: Network evaluations per sample.
        estimate: The metric, with its interval.
    """

    name: str
    sampler: Sampler
    evaluations: int
    estimate: Estimate


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    Attributes:
        searched: All candidates, as they were found.
        default: The default sampler within the budget, on fresh seeds.
        winner: The best of the search, on the same fresh seeds.
        better: Whether the winner replaces the default.
    """

    searched: list[Candidate]
    default: Candidate
    winner: Candidate
    better: bool


def tune(
    flow: Flow,
    nfe: int,
    metric: Metric,
    search: Batch,
    confirm: Batch,
    *,
    training: Batch | None = None,
    n: int = 1000,
    seed: int = 0,
    cond: Callable[[Batch, int], Mapping[str, Any]] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Tuned:
    """Search samplers that spend at most `nfe` network evaluations per sample.

    Args:
        flow: The flow; its sampler is the default. It is not changed.
        nfe: The budget, at least 1. Of a transition kernel the backbone's calls count, which guidance doubles.
        metric: What is to be low (or high: `metric.better`).
        search: Held-out data for the search.
        confirm: Held-out data for the confirmation.
        training: Training data as they were seen (mirrored ones too), for a pruned source; None leaves it out.
        n: Samples per measurement.
        seed: The search draws from it, the confirmation from the next one.
        cond: Gives the conditions of n samples that are compared with a batch.
        say: Takes a line of progress.

    Raises:
        InputError: If the budget is below 1, the metric has no better side, or no sampler gives finite samples.
    """
    if nfe < 1:
        raise InputError(f"nfe is {nfe}: a sample costs at least one network evaluation")
    if metric.better not in ("lower", "higher"):
        raise InputError(f"the metric {metric.name} has no better side: take a distance")
    sign = 1.0 if metric.better == "lower" else -1.0
    seen: dict[str, Candidate] = {}

    def measured(name: str, sampler: Sampler, real: Batch, seed: int) -> Candidate:
        told = {} if cond is None else cond(real, n)
        found = measure(flow, [metric], real, n=n, seed=seed, sampler=sampler, cond=told)
        candidate = Candidate(name, sampler, _evaluations(flow, sampler), found.estimates[metric.name])
        say(f"{name}: {metric.name} {candidate.estimate.value:.4g}, {candidate.evaluations} evaluations")
        return candidate

    def tried(name: str, sampler: Sampler) -> None:
        if name not in seen and _fits(flow, sampler, nfe):
            seen[name] = measured(name, sampler, search, seed)

    def rank(candidate: Candidate) -> float:
        value = sign * candidate.estimate.value
        return value if math.isfinite(value) else math.inf  # samples that left the finite numbers come last

    def best(count: int) -> list[Candidate]:
        return sorted(seen.values(), key=rank)[:count]

    plain = _default(flow, nfe)
    tried("default", plain)
    for name, sampler in _solvers_and_grids(flow, plain, nfe, search, seed):
        tried(name, sampler)
    leaders = best(2)
    for name, source in _sources(flow, training, seed):
        for leader in leaders:
            tried(f"{leader.name}, {name}", replace(leader.sampler, source=source))
    # a Bellman grid was found without this guidance, which bends the trajectories
    leaders = [c for c in best(len(seen)) if not isinstance(c.sampler.grid, BellmanGrid)][:1]
    for rule in _rules(flow, plain):
        for leader in leaders:
            guided = _steps_within(flow, replace(leader.sampler, guidance=(rule,)), nfe)
            if guided is not None:
                tried(f"{leader.name}, then CFG {rule.scale:g} in {_steps(guided.grid.steps)}", guided)
    if not seen:
        raise InputError(f"no sampler of this flow costs at most {nfe} evaluations: raise --nfe, or drop its guidance")
    leader = best(1)[0]
    if rank(leader) == math.inf:
        raise InputError(
            "no sampler of this flow gives finite samples: look at its training, or give it a grid that keeps off the "
            "ends of time, like TimeGrid(25, 0.001, 0.999)"
        )
    say("on fresh seeds")
    winner = default = measured(leader.name, leader.sampler, confirm, seed + 1)
    if "default" not in seen:  # it costs more than the budget
        return Tuned(list(seen.values()), default, winner, True)
    if leader.name != "default":
        default = measured("default", plain, confirm, seed + 1)
    return Tuned(list(seen.values()), default, winner, rank(winner) < rank(default))


def _default(flow: Flow, nfe: int) -> Sampler:
    """The flow's own sampler with as many steps as the budget has, guidance counted."""
    rows = 1 + len({rule.against for rule in flow.sampler.guidance})
    return with_calls(flow, max(1, nfe // rows))


def _solvers_and_grids(flow: Flow, plain: Sampler, nfe: int, search: Batch, seed: int) -> Iterator[tuple[str, Sampler]]:
    """Every usual solver on equal steps, then other grids under the solvers that make one call a step."""
    solvers = SOLVERS if flow.kind == "field" else (plain.solver,)
    for solver in solvers:
        sampler = _steps_within(flow, replace(plain, solver=solver, grid=TimeGrid(nfe)), nfe)
        if sampler is not None:
            yield f"{_name(solver)}, {_steps(sampler.grid.steps, 'equal ')}", sampler
    if plain.grid.steps == 1 and nfe == 1:
        return
    for solver in solvers:
        for shift in SHIFTS:
            sampler = _steps_within(flow, replace(plain, solver=solver, grid=ShiftedGrid(nfe, shift)), nfe)
            if sampler is not None and sampler.grid.steps > 1:
                yield f"{_name(solver)}, {sampler.grid.steps} steps shifted by {shift:g}", sampler
    if flow.kind == "field" and flow.transport.only_grid is None:
        guided = flow.but(sampler=replace(plain, solver=Euler(), grid=TimeGrid(nfe)))
        grid = FitBellman(steps=min(nfe, 100))(guided, _numbers_told(flow, search), seed=seed)
        assert isinstance(grid, Grid)
        for solver in (Euler(), AB2(), DPMpp2M()):
            sampler = _steps_within(flow, replace(plain, solver=solver, grid=grid), nfe)
            if sampler is not None and sampler.grid.steps > 1:
                yield f"{_name(solver)}, Bellman grid of {sampler.grid.steps} steps", sampler


def _steps(count: int, kind: str = "") -> str:
    return f"{count} {kind}step{'s' * (count != 1)}"


def _sources(flow: Flow, training: Batch | None, seed: int) -> Iterator[tuple[str, Any]]:
    """Pruned sources, where the training source is Gaussian and the data leave sides empty."""
    if training is None or flow.transport.source.gaussian is None or flow.kind == "kernel":
        return
    for share in ACCEPTED:
        try:
            source: Any = FitPrunedSource(target_accept=share, flips=False)(flow, training, seed=seed)
        except InputError:  # no side of the data is empty, or too few samples for their axes
            return
        if not len(source.rejected):
            return
        yield f"pruned to {share:.0%}", source


def _rules(flow: Flow, plain: Sampler) -> Iterator[CFG]:
    """Guidance scales, where a null was trained and the default does not steer by itself."""
    if flow.conditions.items and flow.conditions.null_is_trained and not plain.guidance:
        for scale in SCALES:
            yield CFG(scale)


def _steps_within(flow: Flow, sampler: Sampler, nfe: int) -> Sampler | None:
    """The sampler with as many steps as the budget allows; None if not even one."""
    for steps in range(nfe, 0, -1):
        try:
            fewer = sampler.but(steps=steps)
        except InputError:
            return sampler if _fits(flow, sampler, nfe) else None
        if _fits(flow, fewer, nfe):
            return fewer
    return None


def _fits(flow: Flow, sampler: Sampler, nfe: int) -> bool:
    try:
        return _evaluations(flow, sampler) <= nfe
    except InputError:
        return False


def _evaluations(flow: Flow, sampler: Sampler) -> int:
    """Network evaluations per sample, counted on networks that stand still."""
    run = rehearse(flow, sampler)
    if flow.kind == "kernel":
        pair = 2 if sampler.guidance else 1
        return pair * sampler.grid.steps * getattr(flow.network, "rounds", 1)
    return sum(run.rows.values()) // 2  # two samples are rehearsed


def _numbers_told(flow: Flow, data: Batch) -> Batch:
    """The data with conditions that cannot be drawn alone; classes are drawn evenly."""
    drawn = {item.name for item in flow.conditions.items if item.discrete}
    return data.replace(cond={name: value for name, value in data.cond.items() if name not in drawn})


def _name(solver: Solver) -> str:
    inner = getattr(solver, "solver", None)
    return type(solver).__name__ if inner is None else f"{type(solver).__name__}({type(inner).__name__})"
