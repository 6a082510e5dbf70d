"""A multilayer perceptron for vectors and other small states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.networks.base import NetSpec, Network
from advect.networks.embeddings import ConditionEmbedding, harmonics, sample_times
from advect.networks.layers import LayerNorm, Linear


class MLP(Network):
    r"""A perceptron on [x, t, sin(k pi t), cos(k pi t), conditions], SiLU between the layers.

    | size | hidden layers | parameters for shape (2,), no condition |
    |---|---|---|
    | XS | 2 x 64 | 5,058 |
    | S | 3 x 128 | 34,818 |
    | B | 4 x 256 | 200,962 |
    | L | 6 x 512 | 1,320,450 |

    Args:
        spec: What it is built for; the state is flattened.
        size: Widths of the hidden layers.
        hidden: Widths of the hidden layers, instead of those of `size`.
        frequencies: Number of harmonics of each time, k = 1..frequencies.
        residual: Whether every hidden layer after the first is h + W silu(norm(h)); the widths are then equal.
        embedding: Width of the embedding of the conditions.
    """

    sizes: ClassVar[dict[str, tuple[int, ...]]] = {
        "XS": (64,) * 2,
        "S": (128,) * 3,
        "B": (256,) * 4,
        "L": (512,) * 6,
    }

    def __init__(
        self,
        spec: NetSpec,
        size: Literal["XS", "S", "B", "L"] = "S",
        hidden: tuple[int, ...] | None = None,
        frequencies: int = 4,
        residual: bool = False,
        embedding: int = 32,
    ) -> None:
        super().__init__(spec)
        widths = self.sizes[size] if hidden is None else tuple(hidden)
        if not widths or min(widths) < 1 or (residual and len(set(widths)) > 1):
            raise InputError(f"hidden is {widths}: give widths of at least 1, and equal ones with residual=True")
        self.frequencies, self.residual = frequencies, residual
        states = math.prod(spec.shape)
        self.conditions = ConditionEmbedding(spec.conditions, embedding)
        first = states + spec.times * (1 + 2 * frequencies) + (embedding if spec.conditions else 0)
        self.layers = nn.ModuleList(Linear(a, b) for a, b in zip((first, *widths), widths, strict=False))
        self.norms = nn.ModuleList(LayerNorm(w) for w in widths[1:]) if residual else None
        self.head = Linear(widths[-1], states)

    def from_field(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first, new = state.get("layers.0.weight"), 1 + 2 * self.frequencies
        if self.spec.times == 1 or first is None or first.shape[1] + new != self.layers[0].in_features:
            return dict(state)
        place = math.prod(self.spec.shape) + new  # the inputs are x, r, t - r, conditions
        widened = torch.cat([first[:, :place], first.new_zeros(len(first), new), first[:, place:]], 1)
        return dict(state) | {"layers.0.weight": widened}

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(f"hidden{i}" for i in range(len(self.layers)))

    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Any:
        self._check_features(features)
        dtype = self.head.weight.dtype
        parts = [x.flatten(1).to(dtype)]
        parts += [harmonics(t, self.frequencies).to(dtype) for t in sample_times(self.spec, x, times)]
        if self.spec.conditions or cond:
            parts.append(self.conditions(cond, x.shape[0]))
        h = torch.cat(parts, 1)
        taken: dict[str, Tensor] = {}
        for i, layer in enumerate(self.layers):
            if self.norms is None or i == 0:
                h = nn.functional.silu(layer(h))
            else:
                h = h + layer(nn.functional.silu(self.norms[i - 1](h)))
            if f"hidden{i}" in features:
                taken[f"hidden{i}"] = h
        out = self.head(h).reshape(x.shape).to(x.dtype)
        return (out, taken) if features else out
