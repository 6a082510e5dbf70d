r"""Distillation of straight pairs to k Euler steps, and of the way back to one.

Convention: t=0 is the source z0, t=1 the data z1, v = dx/dt.
"""

from __future__ import annotations

import torch

from advect.batch import Batch
from advect.broadcasting import expand_time
from advect.distillation.distances import Distance, SquaredError
from advect.errors import InputError
from advect.interpolants import Linear
from advect.objectives import Loss, Networks, Objective
from advect.times import FiniteSet


class KStep(Objective):
    r"""Train the k calls of a k-step Euler sampler, and nothing else.

        t ~ uniform on {0, 1/k, ..., (k-1)/k},   z_t = t z1 + (1-t) z0,   L = distance(z_t + (1-t) v(z_t, t), z1)

    With the squared error (the default) the loss is E |v - (z1 - z0)|^2, without the factor (1-t)^2, as published; for
    k=1 the two are one. The network sees pure z0 at t=0; the released code feeds it 0.1 % of the answer there
    (t = 1e-3). Distillation keeps the coupling and reflow changes it, so reflow comes first. Sample with
    ``Euler()`` on a grid of k steps, which calls the network at exactly these times.

    Args:
        k: Number of steps, at least 1.
        distance: How far the end is from z1; squared error if None.

    Raises:
        InputError: If k is below 1, or the transport's path is not the straight one.

    Source: arXiv 2209.03003, sections 2.2 (distillation) and 5.
    """

    def __init__(self, k: int = 1, distance: Distance | None = None) -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"k is {k}: a distilled sampler has at least 1 step")
        self.k = k
        self.times = FiniteSet(tuple(i / k for i in range(k)))
        self.distance: Distance = SquaredError() if distance is None else distance

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        _needs_straight(nets)
        x1, x0 = batch.x1, batch.x0
        assert x0 is not None
        t = self.times.sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device)
        point = nets.transport.interpolant.sample(x0, x1, t)
        v = nets.model(point.x, t, **batch.cond)
        if isinstance(self.distance, SquaredError):
            return Loss(v, point.v, weight=batch.weight, t=t)
        distance = self.distance(point.x + expand_time(1 - t, v) * v, x1)
        return Loss(per_sample=distance if batch.weight is None else batch.weight * distance, t=t)


class OneStepEncoder(Objective):
    """Train one Euler step from data back to the source: L = E |v(z1, 1) - (z1 - z0)|^2, so that z0 = z1 - v(z1, 1).

    Source: arXiv 2209.03003, section 2.2 (distillation with t=1).
    """

    def __init__(self) -> None:
        super().__init__()

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        _needs_straight(nets)
        assert batch.x0 is not None
        t = batch.x1.new_ones(batch.x1.shape[0])
        return Loss(nets.model(batch.x1, t, **batch.cond), batch.x1 - batch.x0, weight=batch.weight, t=t)


def _needs_straight(nets: Networks) -> None:
    if not isinstance(nets.transport.interpolant, Linear):
        raise InputError(
            f"the path is {type(nets.transport.interpolant).__name__}: distillation to k Euler steps holds on the "
            "straight path, use Linear"
        )
