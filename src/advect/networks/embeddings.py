r"""How times and conditions become numbers that a network can use.

A field is told t. A flow map f(x, r, t) is told the place r and the length of the jump, t - r. Frequencies are computed
where they are used, in float32 at least: a module cast to bfloat16 keeps exact times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from advect.broadcasting import per_sample_time
from advect.conditions import Condition
from advect.errors import InputError
from advect.networks.base import NetSpec
from advect.networks.layers import Linear, zeroed

MAX_FREQUENCY = 100.0
"""Highest angular frequency of a time embedding, rad per unit time: finer structure in t only roughens d/dt."""


def sample_times(spec: NetSpec, x: Tensor, times: tuple[Tensor, ...]) -> list[Tensor]:
    """The times as a network is told them, each (B,): [t] of a field, [r, t - r] of a flow map."""
    if len(times) != spec.times:
        wanted = "one time, f(x, t)" if spec.times == 1 else "two times, f(x, r, t)"
        raise InputError(f"the network was built for {wanted}, but was called with {len(times)}: see NetSpec.times")
    # times are never rounded to half precision, even where the state is
    like = x if x.dtype.itemsize >= 4 else x.new_empty(x.shape[:1], dtype=torch.float32)
    if spec.times == 1:
        return [per_sample_time(times[0], like)]
    r, t = (per_sample_time(time, like) for time in times)
    return [r, t - r]


def harmonics(t: Tensor, count: int) -> Tensor:
    """[t, sin(k pi t), cos(k pi t)] for k = 1..count: (B,) -> (B, 1 + 2 count)."""
    angle = t[:, None] * (math.pi * torch.arange(1, count + 1, device=t.device, dtype=t.dtype))
    return torch.cat([t[:, None], angle.sin(), angle.cos()], 1)


def fourier(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of `width // 2` geometrically spaced frequencies from 1 to `MAX_FREQUENCY`: (B, width)."""
    count = width // 2
    exponent = torch.arange(count, device=t.device, dtype=t.dtype) / (count - 1)
    angle = t[:, None] * torch.exp(math.log(MAX_FREQUENCY) * exponent)
    return torch.cat([angle.sin(), angle.cos()], 1)


class TimeEmbedding(nn.Module):
    """Fourier features of one time through a two-layer network: (B,) -> (B, width).

    Args:
        width: Length of the embedding.
        zero: Start as zero, for a second time: weights of a field, loaded into a flow map, then give that field.
    """

    def __init__(self, width: int, zero: bool = False) -> None:
        super().__init__()
        self.features = 128
        self.inner = Linear(self.features, width)
        self.outer = Linear(width, width)
        if zero:
            zeroed(self.outer)

    def forward(self, t: Tensor) -> Tensor:
        return self.outer(nn.functional.silu(self.inner(fourier(t, self.features).to(self.inner.weight.dtype))))


class ConditionEmbedding(nn.Module):
    """The conditions of a network as one vector, their sum: {name: (B, ...)} -> (B, width).

    A class is a row of a table whose last row is the null class; a vector goes through a linear layer.

    Args:
        conditions: The conditions; all of them enter as "vector".
        width: Length of the embedding.
    """

    def __init__(self, conditions: tuple[Condition, ...], width: int) -> None:
        super().__init__()
        for c in conditions:
            if c.enters != "vector":
                raise InputError(
                    f"condition {c.name!r} enters as {c.enters!r}, but this network takes conditions as 'vector' only"
                )
        self.conditions = {c.name: c for c in conditions}
        self.tables = nn.ModuleDict(
            {c.name: nn.Embedding(c.width + 1, width) if c.discrete else Linear(c.width, width) for c in conditions}
        )
        for table in self.tables.values():
            if isinstance(table, nn.Embedding):
                nn.init.normal_(table.weight, std=0.25)  # about the size of a fresh time embedding

    def forward(self, cond: Mapping[str, Tensor], rows: int) -> Tensor:
        """Embed the conditions of `rows` samples; there is at least one condition."""
        for name in cond:
            if name not in self.conditions:
                known = ", ".join(self.conditions) or "none"
                raise InputError(f"the network was given the condition {name!r}, but it knows {known}")
        parts = [self._one(name, cond.get(name), rows) for name in self.conditions]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def _one(self, name: str, value: Tensor | None, rows: int) -> Tensor:
        condition, table = self.conditions[name], self.tables[name]
        weight: Tensor = table.weight  # pyright: ignore[reportAssignmentType]
        if condition.discrete:
            if value is None:
                return weight[condition.width].expand(rows, -1)
            return table(value)
        if value is None:
            value = condition.null(weight.new_empty(rows, condition.width))
        return table(value.to(weight.dtype))


class Embedding(nn.Module):
    """Times and conditions of a network as one vector (B, width).

    Args:
        spec: What the network is built for.
        width: Length of the embedding.
    """

    def __init__(self, spec: NetSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.times = nn.ModuleList(TimeEmbedding(width, zero=i > 0) for i in range(spec.times))
        self.conditions = ConditionEmbedding(spec.conditions, width)

    def forward(self, x: Tensor, times: tuple[Tensor, ...], cond: Mapping[str, Tensor]) -> Tensor:
        out, *jump = (embed(t) for embed, t in zip(self.times, sample_times(self.spec, x, times), strict=True))
        for embedded in jump:
            out = out + embedded
        if self.spec.conditions or cond:
            out = out + self.conditions(cond, x.shape[0])
        return out
