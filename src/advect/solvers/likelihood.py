r"""Densities along a flow, and the way back from data to source.

ODE:  log p1(x) = log p0(x_0) - int_0^1 div v dt                              along the ODE that ends in x
SDE:  log p1(x) = E[log p0(X_0) - int_0^1 (div(v + e s) + e |s|^2) dt]        along the backward SDE from x
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from advect.derivatives import Probe, divergence, draw_probe, hutchinson
from advect.errors import InputError
from advect.fields import Bound, Run, Step, bind
from advect.randomness import rand, randn_like
from advect.solvers.adaptive import DormandPrince
from advect.solvers.base import Context, GridLike, Solver, nodes, working_precision
from advect.solvers.nodes import affine, node, source_share
from advect.solvers.noise_levels import NoiseLevel
from advect.solvers.sde import require_score
from advect.sources import Gaussian, Source
from advect.times import Grid, Reversed

Estimator = Literal["exact", "hutchinson"]
_WithDivergence = Callable[[Callable[[Tensor], Tensor], Tensor], tuple[Tensor, Tensor]]


def _backwards(grid: GridLike, context: Context) -> tuple[GridLike, list[float]]:
    """The grid from data to source, with its breaks, and its times."""
    times, _ = nodes(grid, context.interpolant)
    if times[0] > times[-1]:
        return grid, times
    return Reversed(grid) if isinstance(grid, Grid) else times[::-1], times[::-1]


def _invertible(solver: Solver | None) -> Solver:
    if solver is None:
        return DormandPrince()
    if solver.stochastic:
        raise InputError(
            f"solver is {type(solver).__name__}, which draws noise and so has no way back: take an ODE solver"
        )
    return solver


def _estimator(kind: Estimator, x: Tensor, probe: Probe, generator: torch.Generator | None) -> _WithDivergence:
    if kind == "exact":
        return divergence
    if kind == "hutchinson":
        fixed = draw_probe(x, probe, generator)
        return lambda f, y: hutchinson(f, y, fixed)
    raise InputError(f"divergence is {kind!r}: choose 'exact' or 'hutchinson'")


def _source_log_prob(source: Source, x0: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor:
    value = source.log_prob(x0, cond)
    if value is None:
        raise InputError(f"the source {type(source).__name__} has no known density, so the flow has none either")
    return value


class _Augmented:
    """The field of (x, log-density) as one flat state: all of x, then one number per sample."""

    __slots__ = ("estimate", "f", "places", "shape", "size")

    is_bound = True

    def __init__(self, f: Callable[..., Tensor], shape: torch.Size, estimate: _WithDivergence) -> None:
        self.f, self.shape, self.size, self.estimate = f, shape, shape.numel(), estimate
        self.places = not isinstance(f, Bound)

    def __call__(self, packed: Tensor, t: float, step: Step | None = None) -> Tensor:
        def field(x: Tensor) -> Tensor:
            return self.f(x, t, step=step) if self.places else self.f(x, t)

        v, div = self.estimate(field, packed[: self.size].view(self.shape))
        return torch.cat([v.reshape(-1), div]).to(packed.dtype)


def log_prob(
    f: Callable[..., Any],
    x1: Tensor,
    source: Source | None = None,
    solver: Solver | None = None,
    grid: GridLike = 1,
    *,
    divergence: Estimator = "exact",
    probe: Probe = "rademacher",
    generator: torch.Generator | None = None,
    run: Run | None = None,
    context: Context = Context(),
    cond: Mapping[str, Tensor] | None = None,
) -> Tensor:
    r"""log p1(x1) = log p0(x0) - int_0^1 div v dt along the ODE through x1, solved backwards.

    Gradients flow to x1 and to the parameters of f where gradients are on.

    Args:
        f: A field ``f(x, t)``, bound or plain, samples independent of each other.
        x1: Data in state units, (B, *shape).
        source: p0; None is N(0, I).
        solver: Any solver without noise; None is DormandPrince(1e-5).
        grid: A grid from 0 to 1 (or back), a number of uniform steps, or the times.
        divergence: "exact" (one backward pass per coordinate) or "hutchinson" (one in all, unbiased).
        probe: Signs or normal numbers, drawn once and kept over the whole solve.
        generator: Feeds the probe; None takes that of the run.
        run: Counters and generator.
        context: For solvers that need the path.
        cond: Conditions of f, if it is not bound, and of the source.

    Returns:
        Natural logarithm of the density, (B,).
    """
    solver, run = _invertible(solver), Run() if run is None else run
    x1 = working_precision(x1)
    estimate = _estimator(divergence, x1, probe, run.generator if generator is None else generator)
    field = _Augmented(bind(f, run, **dict[str, Any](cond or {})), x1.shape, estimate)
    packed = torch.cat([x1.reshape(-1), x1.new_zeros(x1.shape[0])])
    grid, times = _backwards(grid, context)
    packed = solver(field, packed, grid, context=context)
    end, share = packed[: x1.numel()].view(x1.shape), source_share(context.interpolant, times[-1])
    at_source = _source_log_prob(Gaussian() if source is None else source, end / share, cond)
    return at_source + packed[x1.numel() :] - x1[0].numel() * math.log(share)


def encode(
    f: Callable[..., Any],
    x1: Tensor,
    solver: Solver | None = None,
    grid: GridLike = 1,
    run: Run | None = None,
    *,
    context: Context = Context(),
) -> Tensor:
    """Carry data back to the source, x1 -> x0, along the ODE; arguments as in :func:`log_prob`.

    x0 is the state at the source's end of the grid over g(t) there (1 at t=0 on most paths).
    """
    grid, times = _backwards(grid, context)
    end = _invertible(solver)(f, x1, grid, run, context=context)
    share = source_share(context.interpolant, times[-1])
    return end if share == 1.0 else end / share


def sde_log_prob(
    f: Callable[..., Any],
    x1: Tensor,
    level: NoiseLevel,
    source: Source | None = None,
    grid: GridLike = 500,
    *,
    paths: int = 1,
    divergence: Estimator = "exact",
    probe: Probe = "rademacher",
    run: Run | None = None,
    context: Context = Context(),
    cond: Mapping[str, Tensor] | None = None,
) -> Tensor:
    r"""log p1(x1) as the mean over backward SDE paths of log p0(X_0) - int (div(v + e s) + e |s|^2) dt.

    Logs are averaged, not densities (whose mean would be biased upwards). Euler-Maruyama with everything at the
    start of each step; a step that starts at g=0, where the score of an affine path has no value, adds no noise.

    Args:
        f: A field ``f(x, t)``, bound or plain.
        x1: Data in state units, (B, *shape).
        level: e(t).
        source: p0; None is N(0, I).
        grid: A grid, a number of uniform steps, or the times.
        paths: Paths per sample, one after the other; for many paths of few samples, repeat the rows instead.
        divergence: As in :func:`log_prob`.
        probe: As in :func:`log_prob`.
        run: Counters and generator.
        context: Path, source and score.
        cond: Conditions of f, if it is not bound, and of the source.

    Source: arXiv 2303.08797 theorem 2.21, whose released code runs its nodes backwards from the end of the grid,
    right only for a grid from 0.
    """
    run = Run() if run is None else run
    require_score(context, level)
    source = Gaussian() if source is None else source
    f = bind(f, run, **dict[str, Any](cond or {}))
    _, times = _backwards(grid, context)
    estimate = _estimator(divergence, x1, probe, run.generator)
    total, share = x1.new_zeros(x1.shape[0]), source_share(context.interpolant, times[-1])
    for _ in range(paths):
        x, integral = x1, torch.zeros_like(total)
        for r, t in itertools.pairwise(times):
            v, div_v = estimate(lambda y, r=r: f(y, r), x)
            e = _noise(level, r, context)
            h = t - r
            x_new = x.add(v, alpha=h)
            rate = div_v
            if e > 0:
                s, div_s = _score(estimate, x, v, div_v, r, run, context)
                rate = rate + e * (div_s + s.square().flatten(1).sum(1))
                x_new = x_new.add(s, alpha=-h * e)
                x_new = x_new.add(randn_like(x, run.generator), alpha=math.sqrt(2 * e * abs(h)))
            integral = integral.add(rate, alpha=abs(h))
            x = x_new
        total = total + _source_log_prob(source, x / share, cond) - integral
    return total / paths - x1[0].numel() * math.log(share)


def _noise(level: NoiseLevel, t: float, context: Context) -> float:
    if context.score is None and node(affine(context.interpolant, level), t).g == 0.0:
        return 0.0
    return level.level(t, context.interpolant)


def _score(
    estimate: _WithDivergence, x: Tensor, v: Tensor, div_v: Tensor, t: float, run: Run, context: Context
) -> tuple[Tensor, Tensor]:
    """The score at (x, t) and its divergence; on an affine path both are linear in those of v."""
    if context.score is not None:
        score = bind(context.score, run, role="score")
        return estimate(lambda y: score(y, t), x)
    mean, std = context.source.gaussian or (0.0, 1.0)
    here = node(affine(context.interpolant, context.source), t)
    scale = here.g * std**2
    size = x[0].numel()
    div_x0 = here.x0_of_x * size + here.x0_of_v * div_v
    return (mean - here.x0(v, x)) / scale, -div_x0 / scale


def bits_per_dim(log_prob: Tensor, dims: int, levels_per_unit: float = 127.5) -> Tensor:
    r"""-log p1 / (N log 2) + log2(levels per unit): bits per dimension of integers 0..255 scaled to [-1, 1].

    Args:
        log_prob: Natural log-density of the dequantised, scaled data, (B,).
        dims: N, numbers per sample.
        levels_per_unit: Integer levels per unit of the scaled data: 127.5 for [-1, 1], 255 for [0, 1].
    """
    return log_prob / (-dims * math.log(2)) + math.log2(levels_per_unit)


def dequantise(pixels: Tensor, generator: torch.Generator | None = None, levels_per_unit: float = 127.5) -> Tensor:
    """Integers 0..255 plus uniform noise in [0, 1), scaled and moved to start at -1 (as [-1, 1] pixels do)."""
    noise = rand(pixels.shape, generator, device=pixels.device)
    return (pixels + noise) / levels_per_unit - 1
