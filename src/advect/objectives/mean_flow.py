r"""MeanFlow: the average velocity from scratch, by its identity with a derivative along the trajectory.

    u(x_r, r, t) = v(x_r, r) + (t - r) d/dr u(x_r, r, t),    d/dr u = d_r u + (v . grad_x) u,   t fixed

The start moves along the trajectory and the end stays: the tangents of (x, r, t) are (v, 1, 0).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.broadcasting import expand_time
from advect.derivatives import central_difference, jvp
from advect.errors import InputError
from advect.objectives.adaptive import AdaptiveNorm
from advect.objectives.average_velocity import AverageVelocity, Velocity, picked
from advect.objectives.base import Networks
from advect.objectives.target_guidance import TargetGuidance
from advect.times import LogitNormal, SortedPairs, TimePairs

Derivative = Literal["jvp", "differences"]


class MeanFlow(AverageVelocity):
    r"""L = E w |u(x_r, r, t) - sg[v + (t - r) Du]|^2 with Du the derivative of u along (v, 1, 0).

    One forward and one backward pass of the network, and one pass for the derivative, of the samples with r < t alone
    and without a graph; samples with r = t are flow matching. The derivative is taken in the type of the weights, also
    under autocast. Where the network has dropout it is taken with the masks of the prediction, then of all samples.

    Args:
        pairs: Start and end of the jumps; None for the ImageNet recipe, sorted logit-normal times and three quarters
            with r = t.
        derivative: "jvp", exact, in forward mode; or "differences", two calls at x and r moved by `step` both ways:
            less memory, and it needs nothing of the network.
        velocity: What v is: "data" (x1 - x0 on the straight path) or "teacher", a field of that role.
        norm: Weight per sample; None for the plain mean squared error.
        guidance: Guidance inside v, so that sampling needs none. Samples whose conditions were dropped have plain v.
        step: Step of "differences", above 0. 1e-3 is within 0.2 % of the exact derivative for fresh U-Nets and
            transformers, whose time embeddings reach 100 rad; the published 5e-3 is 3 to 4 % off for them.

    Raises:
        InputError: If an argument is unknown or out of its range.

    Source: arXiv 2505.13447, algorithm 1. There noise is at t=1, u and v have the other sign, and the derivative moves
    the time that is called t there, the start. The official code takes boundary samples and dropped labels from the
    front of the batch (see :class:`~advect.times.SortedPairs`), and the derivative of all samples. In published
    PyTorch code the derivative goes past DistributedDataParallel's hooks; here network and objective are one module,
    whose gradients are synchronised.
    """

    def __init__(
        self,
        pairs: TimePairs | None = None,
        derivative: Derivative = "jvp",
        velocity: Velocity = "data",
        norm: AdaptiveNorm | None = AdaptiveNorm(),
        guidance: TargetGuidance | None = None,
        step: float = 1e-3,
    ) -> None:
        super().__init__(SortedPairs(LogitNormal(0.4, 1.0), 0.75) if pairs is None else pairs, velocity, norm, guidance)
        if derivative not in ("jvp", "differences"):
            raise InputError(f"derivative is {derivative!r}: choose jvp or differences")
        if not step > 0:
            raise InputError(f"step is {step}: a difference quotient needs a step above 0")
        self.derivative: Derivative = derivative
        self.step = step

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
        v = self.velocity_at(nets, batch, x, v, r)
        if has_dropout(nets.model):  # masks belong to places in the batch
            return v + expand_time(t - r, v) * self._along(nets.model, x, r, t, v, batch.cond, masked=True)
        _, moving = self.pairs.split(r, t)
        if moving.shape[0] == 0:
            return v
        if moving.shape[0] == r.shape[0]:
            return v + expand_time(t - r, v) * self._along(nets.model, x, r, t, v, batch.cond)
        start, end, speed = r[moving], t[moving], v[moving]
        change = self._along(nets.model, x[moving], start, end, speed, picked(batch, moving).cond)
        return v.index_copy(0, moving, speed + expand_time(end - start, speed) * change)

    def _along(
        self,
        model: Callable[..., Tensor],
        x: Tensor,
        r: Tensor,
        t: Tensor,
        v: Tensor,
        cond: dict[str, Tensor],
        masked: bool = False,
    ) -> Tensor:
        """d/dr u(x_r, r, t), shape of x; with `masked`, with the dropout masks that the next call will have."""
        with _same_draws(x.device) if masked else contextlib.nullcontext(), _full_precision(x.device):
            if self.derivative == "differences":
                return _differences(model, x, r, t, v, cond, masked, self.step)
            whole = getattr(model, "dynamo_ctx", None)  # a compiled network: compile its derivative likewise
            if whole is None:
                return _forward_mode(model, x, r, t, v, cond)
            return whole(_forward_mode)(model._orig_mod, x, r, t, v, cond)  # pyright: ignore


def _forward_mode(
    model: Callable[..., Tensor], x: Tensor, r: Tensor, t: Tensor, v: Tensor, cond: dict[str, Tensor]
) -> Tensor:
    def u(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return model(x, r, t, **cond)

    return jvp(u, (x, r, t), (v, torch.ones_like(r), torch.zeros_like(t)))[1]


def _differences(
    model: Callable[..., Tensor],
    x: Tensor,
    r: Tensor,
    t: Tensor,
    v: Tensor,
    cond: dict[str, Tensor],
    masked: bool,
    step: float,
) -> Tensor:
    def u(x: Tensor, r: Tensor, t: Tensor) -> Tensor:
        with _same_draws(x.device) if masked else contextlib.nullcontext():  # both ends of the difference
            return model(x, r, t, **cond)

    with _all_digits(x.device):
        return central_difference(u, (x, r, t), (v, torch.ones_like(r), torch.zeros_like(t)), step)


def has_dropout(model: Callable[..., Any]) -> bool:
    """Whether a module of the model sets activations to zero at random now."""
    if not isinstance(model, nn.Module):
        return False
    return any(isinstance(m, nn.modules.dropout._DropoutNd) and m.training and m.p > 0 for m in model.modules())


def _same_draws(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """What is drawn inside from torch's own generators is drawn again afterwards."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda")


def _full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Derivatives are not taken in half precision: autocast is off."""
    on = torch.is_autocast_enabled(device.type) if device.type != "meta" else False
    return torch.autocast(device.type, enabled=False) if on else contextlib.nullcontext()


@contextlib.contextmanager
def _all_digits(device: torch.device) -> Iterator[None]:
    """A difference is divided by a small step: the ten bits of TF32, a default of convolutions on GPUs, are too few."""
    if device.type != "cuda":
        yield
        return
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept
