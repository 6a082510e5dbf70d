"""What a flow gives for a number of network calls: samples, seconds, and metrics with their intervals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from advect.batch import Batch
from advect.errors import InputError
from advect.fields import Run, bind
from advect.flow import Flow
from advect.interpolants import ChainProcess
from advect.metrics import Estimate, Metric
from advect.sampler import Sampler
from advect.solvers import Euler
from advect.times import TimeGrid


@dataclass(frozen=True)
class Quality:
    """One sampler of one flow, measured.

    Attributes:
        calls: Network calls per trajectory, counted, of all roles together.
        seconds: Wall time for all samples.
        estimates: Figures by name.
        samples: The samples that were measured, data units.
        sampler: What drew them.
        roles: The calls by role, such as "backbone" and "head" of a transition kernel.
    """

    calls: int
    seconds: float
    estimates: dict[str, Estimate]
    samples: Tensor
    sampler: Sampler
    roles: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: all but the samples."""
        return {
            "calls": self.calls,
            "calls_by_role": self.roles,
            "seconds": round(self.seconds, 4),
            "n": len(self.samples),
            "sampler": f"{self.sampler.solver}, {self.sampler.grid}",
            "metrics": [estimate.as_dict() for estimate in self.estimates.values()],
        }


def with_calls(flow: Flow, calls: int) -> Sampler:
    """The flow's sampler with as many steps as spend exactly `calls` network calls; where none do, Euler's rule.

    Euler's rule also where the calls would make one single step of a rule of several stages, which is worse.

    Of a transition kernel it is the backbone's calls that are meant, at most so many, and those of the head come on
    top; a chain that was trained at fixed times keeps its sampler.
    """
    if calls < 1:
        raise InputError(f"calls is {calls}: a sampler makes at least 1 network call")
    if flow.kind == "kernel":
        if isinstance(flow.transport.interpolant, ChainProcess) and flow.transport.interpolant.times is not None:
            return flow.sampler
        steps = max(1, calls // getattr(flow.network, "rounds", 1))
        try:
            return flow.sampler.but(steps=steps)
        except InputError:  # a grid of a fixed number of steps
            return replace(flow.sampler, grid=TimeGrid(steps))
    if flow.kind == "flow map":
        return flow.sampler if flow.sampler.grid.steps == calls else replace(flow.sampler, grid=TimeGrid(calls))
    low, high = 1, calls
    while low < high:  # the fewest steps that make at least so many calls
        middle = (low + high) // 2
        low, high = (low, middle) if _count(flow, middle) >= calls else (middle + 1, high)
    grows = _count(flow, low) == calls < _count(flow, low + 1)  # an adaptive rule makes as many whatever the steps
    if grows and (low > 1 or calls == 1):
        return flow.sampler.but(steps=low)
    return replace(flow.sampler, solver=Euler(), grid=TimeGrid(calls))


def _count(flow: Flow, steps: int) -> int:
    """Calls that the flow's solver makes in so many steps, counted on a field that is zero; 0 for a refused number."""
    try:
        sampler = flow.sampler.but(steps=steps)
    except InputError:
        return 0
    run = Run()
    field = bind(lambda x, *times: torch.zeros_like(x), run)
    x0 = torch.zeros(1, *flow.shape, device=flow.device, dtype=flow.dtype)
    sampler.solver(field, x0, sampler.grid, run, context=flow.context())
    return run.nfe


def measure(
    flow: Flow,
    metrics: Sequence[Metric],
    real: Batch,
    other_real: Batch | None = None,
    *,
    n: int = 1000,
    seed: int = 0,
    sampler: Sampler | None = None,
    cond: Mapping[str, Any] | None = None,
    batch_size: int = 500,
) -> Quality:
    """Draw n samples and measure them against real ones.

    Args:
        flow: What is measured.
        metrics: Figures to take.
        real: Real samples.
        other_real: Further real samples for the floors; None splits `real`.
        n: Samples drawn.
        seed: Their seed.
        sampler: How; None is the flow's own.
        cond: Conditions of the samples, n each.
        batch_size: Samples integrated together.
    """
    sampler = flow.sampler if sampler is None else sampler
    cond = dict(cond or {})

    def draw() -> tuple[float, Run, Tensor]:
        run, began = Run(), time.perf_counter()
        samples = flow.sample(
            n,
            seed=seed,
            run=run,
            batch_size=batch_size,
            solver=sampler.solver,
            grid=sampler.grid,
            source=sampler.source,
            guidance=sampler.guidance,
            **cond,
        ).cpu()
        return time.perf_counter() - began, run, samples

    seconds, run, samples = draw()
    if seconds < 0.2:  # of a fast flow the fastest of three, which a busy machine or a cold start spoils least
        seconds = min(seconds, draw()[0], draw()[0])
    fake = Batch(samples, {name: _each(value, n) for name, value in cond.items()})
    estimates = [metric(fake, real, other_real=other_real) for metric in metrics]
    figures = {estimate.name: estimate for estimate in estimates}
    return Quality(run.nfe, seconds, figures, samples, sampler, dict(run.calls))


def _each(value: Any, n: int) -> Tensor:
    """One value for all, or n of them, as n: numbers (n,) or vectors (n, size)."""
    value = torch.as_tensor(value)
    return value if value.ndim and len(value) == n else value.expand(n, *value.shape)


def measure_calls(
    flow: Flow, calls: Sequence[int], metrics: Sequence[Metric], real: Batch, **options: Any
) -> list[Quality]:
    """:func:`measure` for several numbers of network calls; a kernel's that come to the same sampler once."""
    samplers: list[Sampler] = []
    for number in calls:
        sampler = with_calls(flow, number)
        if flow.kind != "kernel" or sampler not in samplers:
            samplers.append(sampler)
    return [measure(flow, metrics, real, sampler=sampler, **options) for sampler in samplers]
