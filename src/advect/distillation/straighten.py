r"""Straightening on the segments of a grid: one Euler step per segment is to land where the teacher's many steps land.

Convention: t=0 is the source, t=1 the data, v = dx/dt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from advect.batch import Batch
from advect.broadcasting import expand_time
from advect.couplings import Paired
from advect.distillation.distances import Distance, SquaredError
from advect.errors import InputError
from advect.objectives import Loss, Networks, Objective
from advect.transport import Transport

REFUSAL = (
    "this flow was straightened for Euler steps on one grid, so the network is a mean velocity over each of them and "
    "gives no score"
)


def straight_transport(teacher: Transport, times: Sequence[float]) -> Transport:
    """The transport of a flow that is straightened on a grid: the teacher's, no score, and known on that grid alone.

    Args:
        teacher: The transport of the flow that is straightened.
        times: The nodes of the grid.
    """
    return Transport(
        source=teacher.source,
        coupling=Paired(),
        interpolant=teacher.interpolant,
        inherited_refusal=teacher.inherited_refusal or REFUSAL,
        only_grid=tuple(float(t) for t in times),
    )


class SegmentRegression(Objective):
    r"""Train the K calls of a K-step Euler sampler on any grid r = g_k, t = g_{k+1} so that each step is right.

        L = E_k distance(x_r + (t - r) v(x_r, r), x_t),    x_r, x_t on the teacher's fine trajectory

    With the squared error (the default) the loss is E |v(x_r, r) - (x_t - x_r)/(t - r)|^2, without the factor
    (t-r)^2, as published. It looks at the network at the K grid times and at the teacher's states there, nowhere else:
    the weights are good for that grid alone. A batch brings x_r as x0, x_t as x1, and both times as extras "r" and "t"
    (:class:`advect.data.StoredSegments`). The grid {0, 1} is the distillation of reflow to one step.

    The perceptual losses of the released code compare x_r + v with x_t, without the length of the step, which is right
    for a segment of length one only; here the step has its length.

    Args:
        distance: How far the end of the step is from the teacher's; squared error if None.

    Raises:
        InputError: If the batch brings no times.

    Source: BOSS, arXiv 2312.16414, section 3 (straightening).
    """

    def __init__(self, distance: Distance | None = None) -> None:
        super().__init__()
        self.distance: Distance = SquaredError() if distance is None else distance

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        if "r" not in batch.extras or "t" not in batch.extras or batch.x0 is None:
            raise InputError(
                "the data bring no segments, states with the times r and t of both ends: make them with make_segments"
            )
        x, r, t = batch.x0, batch.extras["r"], batch.extras["t"]
        v, h = nets.model(x, r, **batch.cond), expand_time(t - r, x)
        if isinstance(self.distance, SquaredError):
            return Loss(v, (batch.x1 - x) / h, weight=batch.weight, t=r)
        distance = self.distance(x + h * v, batch.x1)
        return Loss(per_sample=distance if batch.weight is None else batch.weight * distance, t=r)
