"""Self-attention that also works under forward-mode differentiation."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.nn.attention import SDPBackend, sdpa_kernel

from advect.networks.layers import under_forward_ad, zeroed

log = logging.getLogger(__name__)
_told = False


def attend(q: Tensor, k: Tensor, v: Tensor, layer: str = "attention", mask: Tensor | None = None) -> Tensor:
    r"""softmax(q k^T / sqrt(d)) v by the fastest kernel that can be differentiated here.

    The fused kernels, on CPU and GPU, have no forward mode; under it the math kernel is used, which gives the same
    numbers slower and with the n x n matrix in memory. The first time, a warning is logged that names the layer.
    Nor can they be batched by ``torch.func.vmap`` or nested in two ``torch.func.grad``: there, too, it is the math
    kernel. What cannot be seen coming is ``backward`` through ``autograd.grad(..., create_graph=True)``: run such code
    in ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.

    Args:
        q: Queries (B, heads, n, d).
        k: Keys (B, heads, m, d).
        v: Values (B, heads, m, d).
        layer: Name for the message.
        mask: Which keys a query may see, True where it may, (n, m) or (B, 1, n, m); None for all.
    """
    forward_mode = under_forward_ad()
    if not forward_mode and not _under_nested_transform():
        return nn.functional.scaled_dot_product_attention(q, k, v, mask)
    if forward_mode and not torch.compiler.is_compiling():
        _tell(layer)
    with sdpa_kernel(SDPBackend.MATH):
        return nn.functional.scaled_dot_product_attention(q, k, v, mask)


def _under_nested_transform() -> bool:
    """Whether a transform of torch.func other than a single reverse derivative is on."""
    if torch.compiler.is_compiling():
        return False
    stack = get_interpreter_stack()
    return stack is not None and (len(stack) > 1 or stack[0].key() != TransformType.Grad)


def _tell(layer: str) -> None:
    global _told
    if not _told:
        _told = True
        log.warning(
            "%s runs under forward-mode differentiation, which fused attention kernels lack: "
            "the math kernel is used there, slower and with the same numbers",
            layer,
        )


class KeyValues:
    """Keys and values of the tokens that one layer has seen so far; each call adds its own.

    Args:
        keys: (B, heads, m, d), or None before the first call.
        values: (B, heads, m, d), likewise.
    """

    __slots__ = ("keys", "values")

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        self.keys, self.values = keys, values

    def add(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values with those of the new tokens at the end; copies of this object share what was before."""
        if self.keys is not None and self.values is not None:
            k, v = torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)
        self.keys, self.values = k, v
        return k, v

    def copy(self) -> KeyValues:
        """Another one that has seen the same tokens and grows on its own."""
        return KeyValues(self.keys, self.values)

    def __len__(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]


class SelfAttention(nn.Module):
    """Multi-head attention over tokens (B, n, width), with the projections around it.

    Args:
        width: Features of a token.
        heads: Number of heads; divides the width.
        zero: Start with a projection of zero, so that a residual block starts as the identity.
    """

    def __init__(self, width: int, heads: int, zero: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.label = "SelfAttention"
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        if zero:
            zeroed(self.out)

    def forward(self, x: Tensor, mask: Tensor | None = None, cache: KeyValues | None = None) -> Tensor:
        rows, n, width = x.shape
        qkv = self.qkv(x).reshape(rows, n, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.add(k, v)
        return self.out(attend(q, k, v, self.label, mask).transpose(1, 2).reshape(rows, n, width))


def name_layers(network: nn.Module) -> None:
    """Tell every attention layer of a network its own name, for the message."""
    for name, module in network.named_modules():
        if isinstance(module, SelfAttention):
            module.label = f"{type(network).__name__}.{name}"
