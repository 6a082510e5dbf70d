r"""SplitMeanFlow: the average velocity by an identity between three jumps, without a derivative.

    (t - r) u(x_r, r, t) = (s - r) u(x_r, r, s) + (t - s) u(x_s, s, t),   x_s = x_r + (s - r) u(x_r, r, s)

for r <= s <= t. MeanFlow's identity is its limit s -> r.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from advect.batch import Batch
from advect.broadcasting import expand_time
from advect.errors import InputError
from advect.objectives.adaptive import AdaptiveNorm
from advect.objectives.average_velocity import AverageVelocity, Velocity, at_rest, picked
from advect.objectives.base import Networks
from advect.objectives.target_guidance import TargetGuidance
from advect.times import SortedPairs, TimeDensity, TimePairs, Uniform


class SplitMeanFlow(AverageVelocity):
    r"""L = E |u(x_r, r, t) - target|^2 with s = r + lambda (t - r) and

        target = sg[lambda u(x_r, r, s) + (1 - lambda) u(x_s, s, t)]   where r < t
        target = sg[v(x_r, r)]                                         where r = t

    Three forward passes, one of them with a graph, and a backward pass; no derivative, so any network will do. The two
    calls of the target run without dropout. x_r is always of the data path.

    Any constant solves the first line alone. The second ties u to the data, so the pairs must have samples with r = t:
    half of them in the paper. A low loss alone therefore says nothing; the logs `velocity_error` (where r = t) and
    `jump_error` are apart.

    Args:
        pairs: Start and end of the jumps; None for sorted uniform times, half of them with r = t.
        split: Density of lambda in (0, 1), the share of the leg at the start; ``FiniteSet((0.5,))`` gives the halves of
            Shortcut models.
        velocity: What v is: "teacher", the field of that role (the second stage of the paper; put guidance on the
            teacher to bake it in), or "data", from scratch, which is slower and worse.
        norm: Weight per sample; None (as published) for the plain mean squared error.
        guidance: Guidance inside v; with velocity "data", and none on the teacher.

    Raises:
        InputError: If no sample has r = t.

    Source: arXiv 2507.16884, algorithm 1; it has no published code. Start the flow map from the weights of the teacher
    (``start_from=``, ``weights: previous`` in a recipe). Unofficial code anchors u at the data in training and at
    the noise in sampling.
    """

    def __init__(
        self,
        pairs: TimePairs | None = None,
        split: TimeDensity | None = None,
        velocity: Velocity = "teacher",
        norm: AdaptiveNorm | None = None,
        guidance: TargetGuidance | None = None,
    ) -> None:
        pairs = SortedPairs(Uniform(), 0.5) if pairs is None else pairs
        if pairs.boundary == 0.0:
            raise InputError(
                "pairs.boundary is 0, so no sample has r = t and nothing ties the flow map to the data (a constant has "
                "no loss): give at least 0.5"
            )
        if pairs.boundary < 0.5:
            warnings.warn(
                f"pairs.boundary is {pairs.boundary:g}: splits alone pull towards a constant flow map, and below 0.5 "
                "it may collapse",
                stacklevel=2,
            )
        super().__init__(pairs, velocity, norm, guidance)
        self.split: TimeDensity = Uniform() if split is None else split

    @torch.no_grad()
    def target(
        self,
        nets: Networks,
        batch: Batch,
        x: Tensor,
        v: Tensor,
        r: Tensor,
        t: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        still, moving = self.pairs.split(r, t)
        out = torch.empty_like(v)
        if still.shape[0]:
            out.index_copy_(0, still, self.velocity_at(nets, picked(batch, still), x[still], v[still], r[still]))
        if moving.shape[0]:
            share = self.split.sample(moving.shape[0], generator, dtype=r.dtype, device=r.device)
            cond = picked(batch, moving).cond
            out.index_copy_(0, moving, _composed(nets, x[moving], r[moving], t[moving], share, cond))
        return out


def _composed(nets: Networks, x: Tensor, r: Tensor, t: Tensor, share: Tensor, cond: dict[str, Tensor]) -> Tensor:
    """The average velocity of two jumps, r to s and s to t, as the network has them."""
    s = r + share * (t - r)
    with at_rest(nets.model):
        first = nets.model(x, r, s, **cond)
        second = nets.model(x + expand_time(s - r, x) * first, s, t, **cond)
    return torch.lerp(second, first, expand_time(share, x))
