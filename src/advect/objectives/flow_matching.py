"""Flow matching: regress the velocity of the path."""

from __future__ import annotations

import torch

from advect.batch import Batch
from advect.objectives.base import Loss, Networks, Objective
from advect.times import TimeDensity, Uniform


class FlowMatching(Objective):
    r"""L = E |f(x_t, t) - dx_t/dt|^2, the mean over coordinates.

    Args:
        times: Density of training times.

    Source: arXiv 2210.02747 section 3.2, arXiv 2209.03003 section 2.
    """

    def __init__(self, times: TimeDensity | None = None) -> None:
        super().__init__()
        self.times: TimeDensity = Uniform() if times is None else times

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        x1, x0 = batch.x1, batch.x0
        assert x0 is not None
        t = self.times.sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device)
        point = nets.transport.interpolant.sample(x0, x1, t, generator)
        return Loss(nets.model(point.x, t, **batch.cond) - point.v, weight=batch.weight, t=t)
