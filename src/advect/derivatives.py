r"""Derivatives of fields: directional ones (exact and by differences) and the divergence (exact and estimated).

The divergence of a field v at x (B, *shape) is taken per sample, div_b = sum_i d v_bi / d x_bi; it means that only if
samples do not see each other (no batch normalisation, no attention across the batch).
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward  # what torch.autograd.grad itself calls
from torch.nn.attention import SDPBackend, sdpa_kernel

from advect.errors import InputError
from advect.randomness import rand, randn_like

Probe = Literal["rademacher", "gaussian"]


def jvp(f: Callable[..., Any], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> tuple[Any, Any]:
    r"""Return f(*primals) and its derivative along the tangents, sum_k (df/dp_k) w_k, in one forward pass.

    Args:
        f: Any callable, also one around a module: ``lambda x, r, t: net(x, r, t, **cond)``.
        primals: Where.
        tangents: Along what, shaped like the primals.
    """
    if not torch.compiler.is_compiling():
        _load_forward_mode()
    return torch.func.jvp(f, primals, tangents)  # pyright: ignore[reportReturnType]


@functools.cache
def _load_forward_mode() -> None:
    """Torch loads its rules for forward mode on first use, and warns of its own way of doing so (2.13)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def central_difference(
    f: Callable[..., Tensor], primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...], step: float | None = None
) -> Tensor:
    r"""[f(p + step w) - f(p - step w)] / (2 step): where forward-mode derivatives are not to be had. Error step^2.

    Args:
        f: Any callable.
        primals: Where.
        tangents: Along what, shaped like the primals.
        step: Step; None takes the cube root of the type's resolution (5e-3 in float32, 6e-6 in float64).

    Raises:
        InputError: In half precision, where the difference cancels.
    """
    if primals[0].dtype.itemsize < 4:
        raise InputError(
            f"the state has type {primals[0].dtype}, in which a difference quotient cancels: give it in float32"
        )
    h = torch.finfo(primals[0].dtype).eps ** (1 / 3) if step is None else step
    pairs = list(zip(primals, tangents, strict=True))
    ahead = f(*[p.add(w, alpha=h) for p, w in pairs])
    behind = f(*[p.sub(w, alpha=h) for p, w in pairs])
    return (ahead - behind) / (2 * h)


def draw_probe(x: Tensor, kind: Probe = "rademacher", generator: torch.Generator | None = None) -> Tensor:
    """A probe for :func:`hutchinson`: signs ("rademacher", least variance) or normal numbers, shape of x."""
    if kind == "gaussian":
        return randn_like(x, generator)
    return rand(x.shape, generator, dtype=x.dtype, device=x.device).round_().mul_(2).sub_(1)


def _watched(x: Tensor) -> Tensor:
    if torch.is_inference_mode_enabled():
        raise InputError(
            "a divergence is taken by backward passes, which torch.inference_mode forbids: use torch.no_grad"
        )
    return x if x.requires_grad else x.detach().requires_grad_()


def _twice_differentiable(create: bool) -> AbstractContextManager[Any]:
    """Fused attention has no second derivative: where gradients flow through a divergence, take the plain kernel."""
    return sdpa_kernel(SDPBackend.MATH) if create else nullcontext()


def _evaluated(f: Callable[[Tensor], Tensor], x: Tensor, asked: bool) -> tuple[Tensor, Tensor, bool]:
    """x under watch, v = f(x), and whether gradients flow on: they are on, and something behind v wants them.

    Without the last, a long solve would keep the graph of every step for nobody.
    """
    wanted = x.requires_grad
    x = _watched(x)
    with _twice_differentiable(asked):
        v = f(x)
    return x, v, asked and (wanted or not _only_through(x, v))


def _only_through(x: Tensor, v: Tensor) -> bool:
    """Whether x is the only leaf that v depends on: nothing that asked for gradients is behind v."""
    nodes, seen = [v.grad_fn], set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf is not x:
            return False
        nodes += [before for before, _ in node.next_functions]
    return True


def _pull(v: Tensor, x: Tensor, weight: Tensor, keep: bool, create: bool) -> Tensor:
    """The gradient of (weight * v).sum() in x, (B, size).

    `torch.autograd.grad` without the checks of its arguments: they fit, and the checks cost an eighth of a pass.
    """
    pulled = _engine_run_backward((v,), (weight,), keep or create, create, (x,), True, accumulate_grad=False)[0]
    return (torch.zeros_like(x) if pulled is None else pulled).flatten(1)


@functools.lru_cache(maxsize=2)  # a solve asks for the same ones at every step
def _units(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    return torch.eye(size, dtype=dtype, device=device).unbind()


def divergence(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return v = f(x) and its exact divergence (B,): one forward pass and one backward pass per coordinate.

    Gradients flow through both results when gradients are on. The passes are not batched: fused activations have
    no batched backward, and one after the other is faster and lighter (measured at 2, 16 and 64 dimensions).

    Args:
        f: The field at a fixed time, x -> v, samples independent of each other.
        x: State (B, *shape).
    """
    asked = torch.is_grad_enabled()
    with torch.enable_grad():
        x, v, create = _evaluated(f, x, asked)
        if not v.requires_grad:
            return v, v.new_zeros(x.shape[0])
        flat = v.flatten(1)
        units = _units(flat.shape[1], v.dtype, v.device)
        total, last = v.new_zeros(x.shape[0]), len(units) - 1
        for i, unit in enumerate(units):
            total = total + _pull(flat, x, unit.expand_as(flat), i < last, create).select(1, i)
    return (v, total) if create else (v.detach(), total)


def hutchinson(f: Callable[[Tensor], Tensor], x: Tensor, probe: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return v = f(x) and the estimate probe . (dv/dx) probe of its divergence (B,), in one forward and backward pass.

    Unbiased over probes; keep one probe over a whole solve, so that the solver sees a smooth field.

    Args:
        f: The field at a fixed time, x -> v, samples independent of each other.
        x: State (B, *shape).
        probe: Zero-mean, unit-variance numbers of x's shape (:func:`draw_probe`).

    Source: FFJORD, arXiv 1810.01367, section 3.1.
    """
    asked = torch.is_grad_enabled()
    with torch.enable_grad():
        x, v, create = _evaluated(f, x, asked)
        if not v.requires_grad:
            return v, v.new_zeros(x.shape[0])
        pulled = _pull(v, x, probe, False, create)
    estimate = torch.linalg.vecdot(pulled, probe.flatten(1))
    return (v, estimate) if create else (v.detach(), estimate)
