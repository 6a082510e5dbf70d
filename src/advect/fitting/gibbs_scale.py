"""The scale of Gibbs weights: how much each tilts both ends of a data set, and where the elbow is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from advect.batch import Batch
from advect.couplings import GibbsWeights
from advect.couplings.tilt import Cost, Spread
from advect.errors import InputError
from advect.fitting.base import Fit
from advect.flow import Flow
from advect.parts import Part
from advect.randomness import generator
from advect.sources import Gaussian, Source


@dataclass(frozen=True)
class FitGibbsScale(Fit):
    r"""Try scales eps of :class:`~advect.couplings.GibbsWeights` on data, and take the elbow of the tilt variance.

    It looks at data and a source alone; with a flow, at its codec's states and its source. What it says of one scaling
    of the data holds for no other: eps grows with it, kappa = eps / sqrt(d) also.

    Args:
        source: Who is at t=0; None for the flow's source, or a Gaussian without a flow.
        cost: "norm" or "squared", see :class:`~advect.couplings.GibbsWeights`.
    """

    source: Source | None = None
    cost: Cost = "norm"

    @property
    def name(self) -> str:
        return "gibbs-weights"

    @property
    def needs_flow(self) -> bool:
        return False

    @property
    def needs_data(self) -> bool:
        return True

    @torch.no_grad()
    def __call__(
        self,
        flow: Flow | None = None,
        data: Batch | None = None,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
    ) -> GibbsWeights:
        if data is None:
            raise InputError("data is None: the scale of Gibbs weights is found on data")
        source, x1, draws = self.source, data.x1, generator(seed, "gibbs scale")
        if flow is not None:
            source = source or flow.transport.source
            x1 = flow.codec.encode(x1.to(flow.device), draws)
        source = source or Gaussian()
        x0 = data.x0
        if x0 is None:
            x0 = source.sample(x1.shape, data.cond, draws, x1=x1, dtype=x1.dtype, device=x1.device)
        elif flow is not None:
            x0 = flow.codec.encode(x0.to(flow.device), draws)
        found = GibbsWeights(cost=self.cost)
        found.fit(x0, x1, data.cond, draws)
        part = GibbsWeights(eps=float(found.scale), cost=self.cost)
        part.load_state_dict(found.state_dict())
        return part

    def summary(self, part: Part) -> list[str]:
        assert isinstance(part, GibbsWeights)
        shares = Spread(*part.shares.tolist())
        width = int(part.width)
        squared = "^2" if part.cost == "squared" else ""
        lines = [
            f"cost |x0 - x1|{squared} in {width} dimensions; its standard deviation is {shares.source:.3g} by x0 "
            f"alone, {shares.data:.3g} by x1 alone, {shares.interaction:.3g} by both together",
            f"interaction share {100 * shares.interaction_share:.1f} %: so much of a weight is a coupling, the rest "
            "reweights each end by itself",
            f"{'kappa':>8} {'eps':>8} {'tilt of x0':>11} {'tilt of x1':>11} {'ESS':>7}",
        ]
        for eps, source, data, share in part.curve.tolist():
            mark = "  <- elbow" if math.isclose(eps, float(part.scale), rel_tol=1e-4) else ""
            lines.append(f"{eps / math.sqrt(width):8.3g} {eps:8.3g} {source:11.4f} {data:11.4f} {share:7.3f}{mark}")
        return [*lines, f"eps {float(part.scale):.4g}: GibbsWeights(eps={float(part.scale):.4g})"]
