r"""How far conditional and null velocity of a model lie apart on its way, and the RAAG rule that suits it.

Convention: t=0 is the source, t=1 the data, v = dx/dt; rho = |v_c - v_null| / |v_null| per sample.

At t=0 the ratio is a property of the data. With an independent coupling the velocities are E[x1 | c] - x0 and
E[x1] - x0, so rho_0 = |E[x1 | c] - E[x1]| / |E[x1] - x0|. Later it may rise before it falls to zero, where x_t says
which class it belongs to; late means are carried by few samples, so the median stands beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advect.batch import Batch
from advect.conditions import ClassLabel, Conditions
from advect.errors import InputError
from advect.fields import Run, Step
from advect.fitting.base import Fit
from advect.flow import Flow
from advect.guidance import RAAG, Guidance, Guided, guidance_ratio
from advect.parts import Part
from advect.solvers import Euler, Solver
from advect.solvers.base import GridLike

NOTE = "measured ratio"


@dataclass(frozen=True, eq=False)
class RatioCurve:
    """The guidance ratio along trajectories.

    Attributes:
        times: Where each step began, (K,).
        ratios: Per step and sample, (K, n).
    """

    times: tuple[float, ...]
    ratios: Tensor

    @property
    def median(self) -> list[float]:
        """Median over the samples, by step."""
        return self.ratios.double().quantile(0.5, dim=1).tolist()

    @property
    def mean(self) -> list[float]:
        """Mean over the samples, by step."""
        return self.ratios.double().mean(1).tolist()

    def rows(self) -> tuple[tuple[float, float, float], ...]:
        """Time, median and mean by step."""
        return tuple(zip(self.times, self.median, self.mean, strict=True))


@dataclass(frozen=True)
class _Watch(Guidance):
    """Notes the ratio at the first stage of every step, and leaves the conditional velocity as it is."""

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        if step is not None and step.stage == 0:
            run.note(NOTE, (step.r, guidance_ratio(v_c, v_null)))
        return v_c


def ratio_curve(
    model: Callable[..., Any],
    x0: Tensor,
    grid: GridLike = 10,
    *,
    conditions: Conditions,
    solver: Solver = Euler(),
    guidance: Sequence[Guidance] = (),
    run: Run | None = None,
    **cond: Tensor,
) -> RatioCurve:
    r"""Measure rho = |v_c - v_null| / |v_null| at the start of every step of a run.

    Args:
        model: A field ``f(x, t, **cond)``.
        x0: Start states at the grid's first time, (n, *shape).
        grid: A Grid, a number of uniform steps, or a list of times.
        conditions: Say what the null of each condition is.
        solver: How the trajectories are integrated.
        guidance: Rules under which they run; none is plain conditional sampling. The ratio is that of the predictions
            before any rule.
        run: Counters: two rows per sample and step, as under guidance.
        **cond: Conditions by name, n each.

    Raises:
        InputError: If no condition is given.
    """
    run = Run() if run is None else run
    with torch.no_grad():
        solver(Guided(model, (_Watch(), *guidance), conditions).bind(run, **dict[str, Any](cond)), x0, grid, run)
    return _curve(run)


def _curve(run: Run) -> RatioCurve:
    noted = run.log.pop(NOTE)
    return RatioCurve(tuple(t for t, _ in noted), torch.stack([ratio for _, ratio in noted]))


def alpha_for(ratio: float, w_max: float = 18.0, scale: float = 4.0) -> float:
    r"""alpha = ln((w_max - 1) / (scale - 1)) / ratio: with it, RAAG answers `ratio` with `scale`.

    Args:
        ratio: A ratio above 0, such as the median of the first step.
        w_max: Scale at ratio 0, above 1.
        scale: Scale wanted at that ratio, above 1 and at most w_max.

    Raises:
        InputError: If no alpha does that.
    """
    if not 1 < scale <= w_max:
        raise InputError(f"scale is {scale} and w_max {w_max}: the scale wanted lies above 1 and is at most w_max")
    if not (ratio > 0 and math.isfinite(ratio)):
        raise InputError(
            f"the ratio is {ratio}: the velocity does not depend on the condition there, and no alpha changes the scale"
        )
    return math.log((w_max - 1) / (scale - 1)) / ratio


@dataclass(frozen=True)
class FitRAAG(Fit):
    r"""A RAAG rule whose alpha suits a flow: it answers the median ratio of the first step with a wanted scale.

        alpha = ln((w_max - 1) / (first_scale - 1)) / rho_0

    The effect of the rule depends on alpha rho, and rho differs between models by an order of magnitude: the published
    alpha = 12 switches guidance off on a model whose ratios are about one half.

    The flow runs with its own solver, grid and guidance, on conditions that are given, or on all classes in turn, or on
    those of the data.

    Args:
        w_max: The scale where both velocities agree.
        first_scale: The scale wanted at the median ratio of the first step, above 1 and at most w_max.
        samples: Trajectories that are run.

    Source: the rule is arXiv 2508.03442; this way to choose alpha is advect's.
    """

    w_max: float = 18.0
    first_scale: float = 4.0
    samples: int = 256

    def __post_init__(self) -> None:
        alpha_for(1.0, self.w_max, self.first_scale)
        if self.samples < 2:
            raise InputError(f"samples is {self.samples}: a median is taken of 2 or more")

    @property
    def name(self) -> str:
        return "raag"

    def __call__(
        self,
        flow: Flow | None,
        data: Batch | None = None,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
    ) -> RAAG:
        if flow is None:
            raise InputError("FitRAAG measures a flow: give one")
        run = Run()
        flow.sample(
            self.samples,
            seed=seed,
            batch_size=self.samples,
            run=run,
            guidance=(_Watch(), *flow.sampler.guidance),
            **self._conditions(flow, data, dict(cond or {})),
        )
        curve = _curve(run)
        alpha = alpha_for(curve.median[0], self.w_max, self.first_scale)
        return RAAG(self.w_max, alpha, fitted_on=flow.weights_hash(), measured=curve.rows())

    def _conditions(self, flow: Flow, data: Batch | None, given: dict[str, Any]) -> dict[str, Any]:
        if not flow.conditions.items:
            raise InputError("FitRAAG compares a condition with its null, and this flow has no conditions")
        for item in flow.conditions.items:
            if given.get(item.name) is not None:
                continue
            if data is not None and item.name in data.cond:
                rows = torch.arange(self.samples) % len(data)
                given[item.name] = data.cond[item.name][rows]
            elif isinstance(item, ClassLabel):
                given[item.name] = torch.arange(self.samples) % item.classes
            else:
                raise InputError(f"{item.name} is not given: FitRAAG measures what it changes, so give it or data")
        return given

    def summary(self, part: Part) -> list[str]:
        assert isinstance(part, RAAG)
        _, first, _ = part.measured[0]
        return [
            f"alpha = {part.alpha:.4g} for w_max = {part.w_max:g}: scale {self.first_scale:g} at the first step, whose "
            f"median ratio is {first:.4g}",
            *(
                f"t = {t:.3f}: ratio {median:.4g} (median), {mean:.4g} (mean); scale {_scale(part, median):.3g}"
                for t, median, mean in part.measured
            ),
        ]


def _scale(part: RAAG, ratio: float) -> float:
    return 1 + (part.w_max - 1) * math.exp(-part.alpha * ratio)
