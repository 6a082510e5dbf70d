"""Products by the fused kernels of oneDNN where no graph is kept: sampling, the targets of losses, teachers.

On a CPU, torch hands products of float32 matrices to MKL, which uses half of what some processors offer (measured on
an AMD EPYC: 1.9 to 2.7 times the time of oneDNN from a few million multiplications on). The kernels that
``torch.compile`` puts in their place keep nothing for a backward pass, so they serve where none will come.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch._C._functorch import get_interpreter_stack
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

_ORDINARY = (Tensor, nn.Parameter)
_LEAST = 2**22  # multiplications below which the call itself costs more than is won
_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def graphless() -> bool:
    """Whether nothing that is computed now will be differentiated, transformed or traced."""
    return (
        not torch.is_grad_enabled()
        and forward_ad._current_level < 0
        and not torch.compiler.is_compiling()
        and get_interpreter_stack() is None
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, (..., inputs) to (..., outputs), with a graph where one is asked for."""
    return product(x, weight, bias) if graphless() else nn.functional.linear(x, weight, bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Literal["none", "gelu"] = "none") -> Tensor:
    """x W^T + b, and its GELU ("tanh"), in one pass where that can be had and pays; never with a graph.

    Args:
        x: (..., inputs).
        weight: (outputs, inputs).
        bias: (outputs,), or None.
        activation: What follows.
    """
    if x.numel() * weight.shape[0] >= _LEAST and _plain(x, weight, bias):
        fused = torch.ops.mkldnn._linear_pointwise
        return fused(x.contiguous(), weight, bias, activation, [], "tanh" if activation == "gelu" else "")
    out = nn.functional.linear(x, weight, bias)
    return out if activation == "none" else nn.functional.gelu(out, approximate="tanh")


def watched(module: nn.Module) -> bool:
    """Whether somebody wants to see what goes into a module or comes out of it: its weights cannot stand for it."""
    return bool(module._forward_hooks or module._forward_pre_hooks or _has_any_global_hook())


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Ordinary float32 tensors in main memory, no autocast, and nobody who counts or traces the operations."""
    return (
        _AVAILABLE
        and not torch._C._is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and type(x) is Tensor
        and type(weight) in _ORDINARY
        and (bias is None or _readable(bias, weight.shape[0]))
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
    )


def _readable(bias: Tensor, outputs: int) -> bool:
    """Whether the kernels read a bias as it is: they take its numbers one after the other, whatever its strides."""
    return type(bias) in _ORDINARY and bias.dtype == torch.float32 and bias.shape == (outputs,) and bias.is_contiguous()
