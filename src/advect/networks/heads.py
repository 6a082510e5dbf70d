r"""Heads of transition kernels: small networks that give the inner velocity of tokens, u(y, s | t, h).

A head is described by a part without tensors, and made for the sizes of the kernel that wears it. What is made is
called as ``head(y, s, t, h)`` with tokens y (B, m, d), inner time s of shape () or (B, m), time t of the state of shape
() or (B,), and features h (B, m, D); it gives u (B, m, d).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.networks.embeddings import TimeEmbedding, harmonics
from advect.networks.layers import zeroed
from advect.parts import Part


class Head(Part, ABC):
    """How the head of a kernel is built."""

    @abstractmethod
    def make(self, token: int, features: int, timed: bool) -> nn.Module:
        """The head for tokens of `token` numbers and `features` features each.

        Args:
            token: Numbers per token.
            features: Features that the backbone gives per token.
            timed: Whether it is told the time t of the state. A kernel over the whole history leaves it out.
        """


@dataclass(frozen=True)
class PlainHead(Head):
    """A perceptron on [y, s, t, h] with SiLU between the layers, for small states.

    Args:
        hidden: Widths of the hidden layers.
        frequencies: Number of harmonics of each time.
    """

    hidden: tuple[int, ...] = (64, 64)
    frequencies: int = 4

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1 or self.frequencies < 0:
            raise InputError(f"hidden is {self.hidden}: a head has at least one layer, each of width 1 or more")

    def make(self, token: int, features: int, timed: bool) -> nn.Module:
        return _Plain(self, token, features, timed)


@dataclass(frozen=True)
class AdaLNHead(Head):
    """Residual blocks whose scale, shift and gate are set by s, t and h; gates and output start at zero.

    Args:
        depth: Number of residual blocks.
        width: Features inside.

    Source: arXiv 2506.23589 section 4.1 (6 blocks of width 1024); arXiv 2406.11838 (MAR) section 3.
    """

    depth: int = 6
    width: int = 1024

    def __post_init__(self) -> None:
        if self.depth < 1 or self.width < 1:
            raise InputError(f"depth is {self.depth} and width {self.width}: both are at least 1")

    def make(self, token: int, features: int, timed: bool) -> nn.Module:
        return _AdaLN(self, token, features, timed)


class _Plain(nn.Module):
    def __init__(self, head: PlainHead, token: int, features: int, timed: bool) -> None:
        super().__init__()
        self.frequencies, self.timed = head.frequencies, timed
        first = token + (1 + timed) * (1 + 2 * head.frequencies) + features
        widths = (first, *head.hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.out = nn.Linear(widths[-1], token)

    def forward(self, y: Tensor, s: Tensor, t: Tensor, h: Tensor) -> Tensor:
        dtype = self.out.weight.dtype
        parts = [y.to(dtype), h.to(dtype)]
        for time in (s, t) if self.timed else (s,):
            time = per_token(time, y)
            told = harmonics(time.reshape(-1), self.frequencies).to(dtype)
            parts.insert(-1, told.reshape(*time.shape, -1).expand(*y.shape[:-1], -1))
        z = torch.cat(parts, -1)
        for layer in self.layers:
            z = nn.functional.silu(layer(z))
        return self.out(z).to(y.dtype)


class _AdaLN(nn.Module):
    def __init__(self, head: AdaLNHead, token: int, features: int, timed: bool) -> None:
        super().__init__()
        width = head.width
        self.tokens = nn.Linear(token, width)
        self.told = nn.Linear(features, width)
        self.inner_time = TimeEmbedding(width)
        self.time = TimeEmbedding(width) if timed else None
        self.blocks = nn.ModuleList(_Block(width) for _ in range(head.depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.out = zeroed(nn.Linear(width, token))

    def forward(self, y: Tensor, s: Tensor, t: Tensor, h: Tensor) -> Tensor:
        dtype = self.out.weight.dtype
        told = self.told(h.to(dtype)) + _embedded(self.inner_time, per_token(s, y))
        if self.time is not None:
            told = told + _embedded(self.time, per_token(t, y))
        told = nn.functional.silu(told)
        z = self.tokens(y.to(dtype))
        for block in self.blocks:
            z = block(z, told)
        shift, scale = self.modulation(told).chunk(2, -1)
        return self.out(torch.addcmul(shift, self.norm(z), 1 + scale)).to(y.dtype)


class _Block(nn.Module):
    """z + gate * perceptron(modulated norm(z))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.modulation = zeroed(nn.Linear(width, 3 * width))

    def forward(self, z: Tensor, told: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(told).chunk(3, -1)
        inner = self.inner(torch.addcmul(shift, self.norm(z), 1 + scale))
        return z + gate * self.outer(nn.functional.silu(inner))


def per_token(t: Tensor, y: Tensor) -> Tensor:
    """A time () as (1, 1), (B,) as (B, 1), (B, m) as it is, never rounded to half precision.

    Raises:
        InputError: If its shape is no leading part of that of the tokens y (B, m, d).
    """
    t = t.float() if t.dtype.itemsize < 4 else t
    if t.shape != y.shape[: t.ndim] or t.ndim > 2:
        raise InputError(f"a time has shape {tuple(t.shape)} for tokens of shape {tuple(y.shape)}: (), (B,) or (B, m)")
    return t[(..., *(None,) * (2 - t.ndim))]


def _embedded(embedding: nn.Module, t: Tensor) -> Tensor:
    return embedding(t.reshape(-1)).reshape(*t.shape, -1)
