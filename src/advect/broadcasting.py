"""The only place where a time meets a state: t of shape (), (B,), (B, n) or (N,) against x of shape (B, ...)."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.errors import InputError


def as_time(t: Tensor | float, x: Tensor) -> Tensor:
    """Return t as a tensor of x's floating type on x's device; a Python number becomes 0-d without a host sync."""
    if isinstance(t, Tensor):
        return t if t.dtype == x.dtype and t.device == x.device else t.to(x.device, x.dtype)
    return torch.full((), t, dtype=x.dtype, device=x.device)


def expand_time(t: Tensor | float, x: Tensor) -> Tensor:
    r"""Reshape t so that it broadcasts against x, and refuse what would broadcast silently and wrongly.

    The shape of t must be a leading part of the shape of x: ``()`` for all, ``(B,)`` per sample, ``(B, n)`` per
    token or point, ``(N,)`` per row of ragged data. ``(B, 1)`` against ``(B, d)`` or ``(d,)`` against ``(B, d)``
    are refused.

    Args:
        t: Time, a number or a tensor.
        x: State, shape (B, *shape).

    Returns:
        A tensor of shape ``t.shape + (1, ...)`` with ``x.ndim`` dimensions (0-d stays 0-d), of x's type and device.

    Raises:
        InputError: If t's shape is not a leading part of x's.
    """
    t = as_time(t, x)
    if t.ndim == 0:
        return t
    if t.shape != x.shape[: t.ndim]:
        raise InputError(
            f"t has shape {tuple(t.shape)}, which is not a leading part of x's shape {tuple(x.shape)}: "
            f"give () for one time, ({x.shape[0] if x.ndim else ''},) for one per sample"
        )
    return t[(..., *(None,) * (x.ndim - t.ndim))]  # half the time of reshape


def per_sample_time(t: Tensor | float, x: Tensor) -> Tensor:
    """Return t as shape (B,): what a network that embeds one time per sample wants; () is repeated."""
    t = as_time(t, x)
    if t.ndim == 0:
        return t.expand(x.shape[0])
    if t.shape != x.shape[:1]:
        raise InputError(
            f"t has shape {tuple(t.shape)}, but this model takes one time per sample: () or ({x.shape[0]},)"
        )
    return t
