r"""Stable targets: the end of a path replaced by its mean over a reference batch, given the state.

Given x_t, the pair (x0, x1) that made it is one of many. Over a reference batch y_1, ..., y_R that holds x1 too,

    x1 <- sum_i w_i y_i,    w = softmax_i log p0((x_t - a y_i) / g),    x0 <- (x_t - a x1) / g

has the same state and, for R -> infinity, the same mean given it; less variance, and a bias of order 1/R.

Source: stable target fields, arXiv 2302.00670; the option `stf` of PFGM++, arXiv 2302.04265.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.interpolants import AffineInterpolant
from advect.oracles.base import column_time
from advect.sources import Source, StudentT
from advect.sources.kernels import point_logits
from advect.transport import Transport


def stable_refusal(transport: Transport) -> str | None:
    """None if the posterior of the data given a state has a closed form; else the sentence that says why not."""
    if not isinstance(transport.interpolant, AffineInterpolant):
        return f"stable targets need an affine path, and {type(transport.interpolant).__name__} is none"
    if not transport.coupling.independent or transport.inherited_refusal is not None:
        return (
            f"stable targets average over data that are independent of x0, but the coupling "
            f"{type(transport.coupling).__name__} ties them: leave `stable` out"
        )
    if transport.source.gaussian is None and not isinstance(transport.source, StudentT):
        return (
            f"stable targets are known for a Gaussian or Student-t source, and {type(transport.source).__name__} is "
            "neither: leave `stable` out"
        )
    return None


@torch.no_grad()
def stable_pair(
    x: Tensor, t: Tensor, x0: Tensor, x1: Tensor, reference: Tensor, path: AffineInterpolant, source: Source
) -> tuple[Tensor, Tensor]:
    """The ends (x0, x1) with the same state x, x1 averaged over the posterior on the reference batch.

    Weights are taken in float64, relative to the nearest point.

    Args:
        x: States (B, *shape).
        t: Times (B,).
        x0: The source ends that made the states.
        x1: The data ends.
        reference: The data to average over (R, *shape); they hold x1.
        path: The path.
        source: Gaussian or Student-t.
    """
    mean, scale = source.location_scale or (0.0, 1.0)
    time = column_time(t, x)[:, :, 0]
    a, g = path.alpha(time), path.sigma(time)
    points = reference.flatten(1).double()
    df = source.degrees if isinstance(source, StudentT) else None
    weights = point_logits(x.flatten(1).double() - g * mean, points, a, g * scale, df).softmax(1)
    averaged = (weights @ points).reshape(x1.shape).to(x1.dtype)
    # x0 + (a / g) (x1 - averaged), which at g=0 is x0 itself: there the average is x1
    step = expand_time(path.alpha(t), x) * (x1 - averaged)
    return x0 + torch.where(step == 0, 0.0, step / expand_time(path.sigma(t), x)), averaged
