r"""What losses of average velocities share: pairs of times, the velocity they rest on, guidance in it, and the norm.

The average velocity of a jump from r to t is u(x_r, r, t) with x_t = x_r + (t - r) u, and u(x, r, r) = v(x, r).
Convention: t=0 source, t=1 data, x is given at the start r. Publications have noise at t=1 and u, v of the other sign.
"""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.errors import InputError
from advect.objectives.adaptive import AdaptiveNorm
from advect.objectives.base import Loss, Networks, Objective
from advect.objectives.target_guidance import TargetGuidance
from advect.times import TimePairs

Velocity = Literal["data", "teacher"]


class AverageVelocity(Objective):
    """The common part of the losses of average velocities; `model` is a flow map u(x, r, t).

    Args:
        pairs: Start and end of the jumps.
        velocity: What v is at x_r: "data", the velocity of the pair (x0, x1), whose mean given x_r is the field; or
            "teacher", the field of the role "teacher", with its guidance.
        norm: Weight per sample; None for the plain mean over samples and coordinates.
        guidance: Guidance inside v; None for none.
    """

    def __init__(
        self, pairs: TimePairs, velocity: Velocity, norm: AdaptiveNorm | None, guidance: TargetGuidance | None
    ) -> None:
        super().__init__()
        if velocity not in ("data", "teacher"):
            raise InputError(f"velocity is {velocity!r}: choose data or teacher")
        if velocity == "teacher" and norm is not None and norm.power >= 1 and norm.eps < 1:
            warnings.warn(
                f"norm is AdaptiveNorm({norm.power:g}, {norm.eps:g}) and v is a teacher's: samples with r = t have "
                "nearly no error and get weights near 1/eps, in which the jumps drown or diverge: take norm=None, a "
                "power of 0.5, or an eps of the size of the errors",
                stacklevel=3,
            )
        self.pairs, self.velocity, self.norm, self.guidance = pairs, velocity, norm, guidance
        teacher = {"teacher": "field"} if velocity == "teacher" else {}
        self.needs = {"model": "flow map"} | teacher  # pyright: ignore[reportAttributeAccessIssue]

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        if batch.rows is not None:
            raise InputError(
                f"the batch has ragged rows, and {type(self).__name__} draws its times per sample of one shape"
            )
        x1, x0 = batch.x1, batch.x0
        assert x0 is not None
        r, t = self.pairs.sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device, dropped=batch.dropped)
        point = nets.transport.interpolant.sample(x0, x1, r, generator)
        # the target first: it keeps nothing, and the graph of the prediction is not yet there
        target = self.target(nets, batch, point.x, point.v, r, t, generator)
        u = nets.model(point.x, r, t, **batch.cond)
        return self._compared(u, target, batch, r, t)

    @abstractmethod
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
        """What u(x, r, t) should be, shape of x, without gradient.

        Args:
            nets: The networks.
            batch: The paired batch.
            x: State at r.
            v: Velocity of the pair at r.
            r: Starts (B,).
            t: Ends (B,).
            generator: Feeds every draw.
        """

    @torch.no_grad()
    def velocity_at(self, nets: Networks, batch: Batch, x: Tensor, v: Tensor, r: Tensor) -> Tensor:
        """v at x and r, of data or teacher, guided where that is asked for; shape of x."""
        if self.velocity == "teacher":
            v = nets["teacher"](x, r, **batch.cond)
        if self.guidance is None:
            return v
        with at_rest(nets.model):
            return self.guidance(nets.model, x, r, v, batch)

    def _compared(self, u: Tensor, target: Tensor, batch: Batch, r: Tensor, t: Tensor) -> Loss:
        weight = batch.weight
        if self.norm is not None:  # a Loss takes the mean over coordinates, the norm the sum
            adaptive = self.norm.weight(u, target) * u[0].numel()
            weight = adaptive if weight is None else weight * adaptive
        return Loss(u, target, weight=weight, t=r, logs=_errors(u, target, r, t))


@torch.no_grad()
def _errors(u: Tensor, target: Tensor, r: Tensor, t: Tensor) -> dict[str, Tensor]:
    """Mean squared errors where r = t and where r < t: consistency alone can be 0 for a flow map that has collapsed."""
    error = (u - target).square().reshape(len(u), -1).mean(1)
    same = (r >= t).to(error.dtype)
    jump = 1 - same
    return {
        "velocity_error": (error * same).sum() / same.sum().clamp(min=1),
        "jump_error": (error * jump).sum() / jump.sum().clamp(min=1),
    }


def picked(batch: Batch, rows: Tensor) -> Batch:
    """What conditions and guidance read of some samples of a batch."""
    return Batch(
        batch.x1[rows],
        {name: value[rows] for name, value in batch.cond.items()},
        dropped=None if batch.dropped is None else batch.dropped[rows],
    )


@contextlib.contextmanager
def at_rest(model: Callable[..., Any]) -> Iterator[None]:
    """Within, the model has no dropout; afterwards it is as it was."""
    training = [m for m in model.modules() if m.training] if isinstance(model, nn.Module) else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
