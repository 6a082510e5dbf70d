"""Self-attention that also works under forward-mode differentiation."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from advect.networks.layers import Linear, moving, under_forward_ad, zeroed

log = logging.getLogger(__name__)
_told = False


def attend(q: Tensor, k: Tensor, v: Tensor, layer: str = "attention", mask: Tensor | None = None) -> Tensor:
    r"""softmax(q k^T / sqrt(d)) v by the fastest kernel that can be differentiated here.

    The fused kernels, on CPU and GPU, have no forward mode. A single forward-mode derivative through which no gradient
    flows is worked out in closed form (:func:`slope_of_attention`); where gradients, autocast, tracing or a second
    transform are on as well, the math kernel is used, which gives the same numbers slower and with the n x n matrix in
    memory. The first time, a warning is logged that names the layer. Nor can the fused kernels be batched by
    ``torch.func.vmap`` or nested in two ``torch.func.grad``: there, too, it is the math kernel. What cannot be seen
    coming is ``backward`` through ``autograd.grad(..., create_graph=True)``: run such code in
    ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.

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
    pairs = [moving(part) for part in (q, k, v)]
    if pairs[0] and pairs[1] and pairs[2]:
        return forward_ad.make_dual(*slope_of_attention(*pairs[0], *pairs[1], *pairs[2], mask))
    if forward_mode and not torch.compiler.is_compiling():
        _tell(layer)
    with sdpa_kernel(SDPBackend.MATH):
        return nn.functional.scaled_dot_product_attention(q, k, v, mask)


_SCORES = {"cpu": 2**18, "cuda": 2**26}
"""Scores that are worked on at once: on a CPU about as many as stay in its cache."""


def slope_of_attention(
    q: Tensor, dq: Tensor, k: Tensor, dk: Tensor, v: Tensor, dv: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Attention and its derivative along (dq, dk, dv), block by block, without a graph: both (B, heads, n, d).

        o = P v,    do = P dv + dP v,    P = softmax(S),    S = q k^T / sqrt(d)
        dP = P * dS - P rowsum(P * dS),    dS = (dq k^T + q dk^T) / sqrt(d)

    Half precision is worked out in float32 and rounded once, as in the math kernel.

    Args:
        q: Queries (B, heads, n, d).
        dq: Their tangent.
        k: Keys (B, heads, m, d).
        dk: Their tangent.
        v: Values (B, heads, m, d).
        dv: Their tangent.
        mask: Which keys a query may see, (n, m) or (B, 1, n, m); None for all. One that sees no key answers zero.
    """
    (rows, heads, n, d), m = q.shape, k.shape[2]
    dtype = q.dtype if q.dtype.itemsize >= 4 else torch.float32
    # tokens before heads in memory, as the projection behind it wants them
    out, slope = (q.new_empty(rows, n, heads, v.shape[3]).transpose(1, 2) for _ in range(2))
    room = max(1, _SCORES.get(q.device.type, 2**26) // m)  # queries at once
    high = min(n, room)
    wide = min(heads, max(1, room // n))
    deep = max(1, min(rows, room // (n * heads)))
    buffers = q.new_empty(3, deep * wide * high * m, dtype=dtype)
    for b in range(0, rows, deep):
        for h in range(0, heads, wide):
            one = slice(b, b + deep), slice(h, h + wide)
            keys, dkeys, values, dvalues = (part[one].flatten(0, 1).to(dtype) for part in (k, dk, v, dv))
            for i in range(0, n, high):
                some = (*one, slice(i, i + high))
                a, da = (part[some].flatten(0, 1).to(dtype) * d**-0.5 for part in (q, dq))
                scores, p, dp = (part[: a.shape[0] * a.shape[1] * m].view(*a.shape[:2], m) for part in buffers)
                torch.bmm(a, keys.mT, out=scores)
                hidden = None if mask is None else _hidden(mask, some, out[some].shape[:3])
                if hidden is not None:
                    scores.masked_fill_(hidden, -math.inf)
                torch.softmax(scores, 2, out=p)
                if hidden is not None:
                    p.masked_fill_(hidden, 0)  # also where a query sees nothing, and the softmax is 0/0
                torch.bmm(da, keys.mT, out=dp).baddbmm_(a, dkeys.mT).mul_(p)
                dp.addcmul_(p, dp.sum(2, keepdim=True), value=-1)
                out[some] = torch.bmm(p, values).view_as(out[some])
                slope[some] = torch.bmm(p, dvalues).baddbmm_(dp, values).view_as(out[some])
    return out, slope


def _hidden(mask: Tensor, some: tuple[slice, slice, slice], shape: torch.Size) -> Tensor:
    """What the mask hides of a block of samples, heads and queries, (samples * heads, queries, m)."""
    if mask.ndim == 2:
        return ~mask[some[2]]
    mask = mask.expand(mask.shape[0], mask.shape[1], -1, -1)
    part = mask[some[0] if len(mask) > 1 else slice(None), some[1] if mask.shape[1] > 1 else slice(None), some[2]]
    return ~part.expand(*shape, -1).flatten(0, 1)


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
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
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
