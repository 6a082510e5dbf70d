r"""The error of a field's velocity on clean data by time, and the weights of FLAIR's prior steps that it gives.

    e(tau) = mean |v(x_t, t) - (x1 - x0)|^2 per element,  x_t = t x1 + (1 - t) x0,  tau = 1 - t = linspace(1, 0, points)

On another affine path the target is a' x1 + g' x0. Convention: t=0 is the source, t=1 the data.

Source: arXiv 2506.02680, section 3.4; no calibration script is published, only two tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from advect.batch import Batch
from advect.errors import InputError
from advect.fitting.base import Fit
from advect.flow import Flow
from advect.interpolants import AffineInterpolant, Interpolant, Linear
from advect.inverse import CalibratedWeights
from advect.parts import Part
from advect.randomness import NumberedGenerator, randn_like


@torch.no_grad()
def velocity_errors(
    f: Callable[..., Tensor],
    x1: Tensor,
    points: int = 100,
    *,
    interpolant: Interpolant = Linear(),
    std: float = 1.0,
    generator: torch.Generator | None = None,
    batch_size: int = 512,
) -> Tensor:
    """Mean square error per element of a field's velocity at times 0, ..., 1, each with fresh noise.

    Args:
        f: A field ``f(x, t)``, bound or plain, under the guidance it is used with.
        x1: Clean data as states (N, *shape).
        points: How many times.
        interpolant: The path, an affine one.
        std: Standard deviation of the Gaussian source.
        generator: Feeds the noise.
        batch_size: Samples that run together.

    Returns:
        e (points,), float64: index 0 is pure noise (tau = 1), the last one clean data.

    Raises:
        InputError: If there are fewer than two points, or the path is not affine.
    """
    if points < 2:
        raise InputError(f"points is {points}: the table has at least 2 times")
    if not isinstance(interpolant, AffineInterpolant):
        raise InputError(f"the path is {type(interpolant).__name__}: prior weights are there for affine paths")
    errors = torch.zeros(points, dtype=torch.float64, device=x1.device)
    for k in range(points):
        t = k / (points - 1)
        for part in x1.split(batch_size):
            point = interpolant.sample(std * randn_like(part, generator), part, torch.tensor(t).to(part))
            errors[k] += (f(point.x, t) - point.v).double().square().sum()
    return errors / x1.numel()


@dataclass(frozen=True)
class FitPriorWeights(Fit):
    """Measure how well a flow knows its velocity at each time, and weigh FLAIR's prior steps by it.

    Args:
        samples: Clean samples that it looks at, at least 1.
        points: Times of the table.
        offset: "none" (as released) or "last", which takes off the weight at the data end.
        gamma: Factor of the normalised weights.
        max_beta: Largest share of a prior step; None leaves the weights as released.
        told: Whether the flow is told the conditions of the data; leave it off to restore without them.
        batch_size: Samples that run together.
    """

    samples: int = 300
    points: int = 100
    offset: Literal["none", "last"] = "none"
    gamma: float = 0.5
    max_beta: float | None = 0.85
    told: bool = False
    batch_size: int = 256

    def __post_init__(self) -> None:
        if min(self.samples, self.batch_size) < 1 or self.points < 2:
            raise InputError(
                f"samples is {self.samples}, batch_size {self.batch_size} and points {self.points}: "
                "give at least 1, 1 and 2"
            )

    @property
    def name(self) -> str:
        return "prior-weights"

    @property
    def needs_data(self) -> bool:
        return True

    @torch.no_grad()
    def __call__(
        self, flow: Flow | None, data: Batch | None = None, *, seed: int = 0, cond: Mapping[str, Any] | None = None
    ) -> CalibratedWeights:
        """Run the flow, under its sampler's guidance, on clean data; `cond` is what it is told of all of them."""
        if flow is None or data is None:
            raise InputError("prior weights are found by running a flow on clean data: give both")
        weights = CalibratedWeights(self.offset, self.gamma, self.max_beta, fitted_on=flow.weights_hash())
        gaussian = flow.transport.source.gaussian
        if gaussian is None or gaussian[0] != 0.0:
            raise InputError(f"the source is {flow.transport.source}: prior weights need a Gaussian one of mean 0")
        pictures = data.x1[: self.samples]
        own = {item.name for item in flow.conditions.items} & set(data.cond) if self.told else set[str]()
        known = {name: data.cond[name][: self.samples] for name in own} | dict(cond or {})
        errors = torch.zeros(self.points, dtype=torch.float64)
        for first in range(0, len(pictures), self.batch_size):
            rows = slice(first, first + self.batch_size)
            x1 = flow.codec.encode(pictures[rows].to(flow.device, flow.dtype))
            given = {
                k: v[rows] if isinstance(v, Tensor) and v.ndim and len(v) == len(pictures) else v
                for k, v in known.items()
            }
            with flow.evaluating():
                found = velocity_errors(
                    flow.bind(guidance=flow.sampler.guidance, **flow.told(len(x1), given)),
                    x1,
                    self.points,
                    interpolant=flow.transport.interpolant,
                    std=gaussian[1],
                    generator=NumberedGenerator(seed, "prior weights", first=first, count=len(x1)),
                    batch_size=len(x1),
                )
            errors += found.cpu() * (len(x1) / len(pictures))
        return weights.fit(errors)

    def summary(self, part: Part) -> list[str]:
        assert isinstance(part, CalibratedWeights)
        from advect.inverse import Flair

        times, path = Flair().times(), Linear()
        errors, weights = part.errors, part.at(times, path)
        shares = [w / (1 - t) for w, t in zip(weights, times, strict=True)]
        best = int(errors.argmin())
        released = CalibratedWeights(part.offset, part.gamma, None).fit(errors).at(times, path)
        largest = max(w / (1 - t) for w, t in zip(released, times, strict=True))
        return [
            f"velocity error per element: {float(errors[0]):.3g} at tau = 1, least {float(errors[best]):.3g} at "
            f"tau = {1 - best / (len(errors) - 1):.2f}, {float(errors[-1]):.3g} at tau = 0",
            f"shares beta of 50 prior steps: {shares[0]:.3g} first, {max(shares):.3g} largest, {shares[-1]:.3g} last",
            f"as released (not rescaled) the largest would be {largest:.3g}"
            + ("" if largest < 2 else ", which diverges"),
        ]
