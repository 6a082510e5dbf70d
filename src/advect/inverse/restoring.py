"""Restoration with a whole Flow: its field, codec, path and conditions, on pictures of its size or larger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, bind, kind_of
from advect.inverse.base import InverseMethod, Restoration
from advect.inverse.flair import Flair
from advect.inverse.operators import Operator
from advect.inverse.tiling import Tiled
from advect.randomness import NumberedGenerator

if TYPE_CHECKING:
    from advect.flow import Flow
    from advect.guidance import Guidance


def restore(
    flow: Flow,
    y: Tensor,
    operator: Operator,
    method: InverseMethod = Flair(),
    *,
    shape: tuple[int, ...] | None = None,
    guidance: tuple[Guidance, ...] = (),
    overlap: int | None = None,
    seed: int = 0,
    first: int = 0,
    run: Run | None = None,
    **cond: Any,
) -> Restoration:
    """Restore one picture per measurement with a trained flow as prior.

    Draw i depends on the seed and its number alone; several draws of one measurement are rows of `y` that repeat it.

    Args:
        flow: The prior.
        y: Measurements (B, *m) in units of pixels in [-1, 1].
        operator: How they came about.
        method: How they are inverted.
        shape: Shape (C, H, W) of the pictures; None for that of the flow. Larger ones are covered with windows.
        guidance: Rules that steer the prior.
        overlap: How far windows overlap, in the codec's states; None for a quarter of their side.
        seed: Seed of every draw.
        first: Number of the first draw.
        run: Takes up counts and notes.
        cond: Conditions by name, as in :meth:`Flow.sample`; what is not given is null.

    Raises:
        InputError: If the flow cannot be noised anew (no independent Gaussian source), is no field, or the picture is
            smaller than it.
    """
    if (kind := kind_of(flow.network)) != "field":
        raise InputError(f"the model is a {kind}, and restoration needs a velocity at many noise levels: take a field")
    if flow.score_refusal is not None:
        raise InputError(f"this flow cannot restore, because pictures are noised anew on the way: {flow.score_refusal}")
    gaussian = flow.transport.source.gaussian
    if gaussian is None or gaussian[0] != 0.0:
        raise InputError("this flow cannot restore: its source is no Gaussian of mean 0")
    own = flow.codec.data_shape(flow.shape)
    shape = own if shape is None else tuple(shape)
    refuse_size(shape, own)
    state = flow.codec.latent_shape(shape)
    given = flow.told(len(y), cond)
    field: Any = flow.field(guidance=guidance)
    if state != tuple(flow.shape):
        sides = (flow.shape[1], flow.shape[2])
        field = Tiled(field, sides, min(sides) // 4 if overlap is None else overlap)
    run = Run() if run is None else run
    run.generator = NumberedGenerator(seed, "restore", first=first, count=len(y))
    with flow.evaluating():
        return method(
            bind(field, run, **given),
            y.to(flow.device, flow.dtype),
            operator.to(flow.device),
            shape,
            codec=flow.codec,
            interpolant=flow.transport.interpolant,
            std=gaussian[1],
            run=run,
        )


def refuse_size(shape: tuple[int, ...], own: tuple[int, ...]) -> None:
    """Refuse pictures that the prior cannot cover: another number of channels, or a side smaller than its own."""
    if len(own) != 3 or len(shape) != 3:
        raise InputError(f"restoration is of pictures (C, H, W), and the flow makes samples of shape {own}")
    if shape[0] != own[0]:
        raise InputError(f"the picture has {shape[0]} channels and the prior {own[0]}: convert it")
    if shape[1] < own[1] or shape[2] < own[2]:
        raise InputError(
            f"the picture is {shape[2]}x{shape[1]} and the prior was trained on {own[2]}x{own[1]}: pictures of that "
            "size and larger can be restored; a smaller one is never resized silently"
        )
