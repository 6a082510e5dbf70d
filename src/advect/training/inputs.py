"""What a user hands to `advect.train` (tensors, a class, a number), turned into parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.codecs import Codec
from advect.conditions import ClassLabel, Condition, Conditions, Vector
from advect.data.base import Data, Split
from advect.errors import InputError
from advect.networks import NetSpec
from advect.objectives import Objective
from advect.randomness import generator, seed_of


@dataclass(frozen=True, eq=False)
class InMemory(Data):
    """Tensors of a user's program; not a part of a recipe, since a recipe holds no tensors.

    Args:
        x1: Samples (N, *shape).
        cond: Conditions by name, (N, ...).
        items: Their declarations.
    """

    x1: Tensor
    cond: dict[str, Tensor]
    items: tuple[Condition, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x1.shape[1:])

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self.items

    def size(self, split: Split = "train") -> int:
        return len(self.x1) if split == "train" else 0

    def batch(self, split: Split, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        index = index.to(self.x1.device)
        return Batch(self.x1[index], {name: value[index] for name, value in self.cond.items()})


def as_data(data: Any) -> Data:
    """A tensor (N, *shape), or (tensor, labels), or (tensor, {name: values}), or data as they are."""
    if isinstance(data, Data):
        return data
    x1, given = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, {})
    x1 = _tensor(x1, "data")
    if not x1.is_floating_point():
        raise InputError(f"data has type {x1.dtype}: give floating numbers, images as x / 127.5 - 1")
    if x1.ndim < 2 or len(x1) == 0:
        raise InputError(f"data has shape {tuple(x1.shape)}: give samples as (N, ...) with N > 0, scalars as (N, 1)")
    bad = ~x1.flatten(1).isfinite().all(1)
    if bool(bad.any()):
        raise InputError(f"data[{int(bad.int().argmax())}] is not finite ({int(bad.sum())} of {len(x1)}): remove these")
    values = {name: _tensor(v, name) for name, v in (given if isinstance(given, dict) else {"label": given}).items()}
    items = tuple(_declare(name, value, len(x1)) for name, value in values.items())
    return InMemory(
        x1, {item.name: item.check(value) for item, value in zip(items, values.values(), strict=True)}, items
    )


def _tensor(value: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} is {type(value).__name__}, not a tensor or array: {error}") from error


def _declare(name: str, value: Tensor, n: int) -> Condition:
    if len(value) != n:
        raise InputError(f"{name} has {len(value)} entries for {n} samples: give one per sample")
    if value.is_floating_point():
        return Vector(int(value.shape[-1]), name)
    return ClassLabel(int(value.max()) + 1, name)


def as_conditions(data: Data, conditions: Conditions | None, drop: float | dict[str, float] | None) -> Conditions:
    """The conditions of the data, or those given; a number as `drop` drops all of them together."""
    items = data.conditions if conditions is None else conditions.items
    if drop is None:
        return Conditions(items, {} if conditions is None else conditions.drop)
    if not isinstance(drop, dict):
        drop = {",".join(item.name for item in items): float(drop)} if items and drop else {}
    return Conditions(items, drop)


def as_network(
    network: nn.Module | Callable[[NetSpec], nn.Module],
    data: Data,
    codec: Codec,
    conditions: Conditions,
    objective: Objective,
    seed: int,
) -> nn.Module:
    """The network itself, or the one that a class or function makes for these data, its weights drawn from the seed."""
    if isinstance(network, nn.Module):
        return network
    times = 2 if objective.needs.get("model") == "flow map" else 1
    spec = NetSpec(codec.latent_shape(data.shape), conditions.items, times)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_of(seed, "init"))
        made = network(spec)
    if not isinstance(made, nn.Module):
        raise InputError(f"network made a {type(made).__name__}, not an nn.Module: give a module, or a class of one")
    return made


def fit_codec(codec: Codec, data: Data, seed: int, most: int = 20_000) -> None:
    """Fit a codec that is found on data (scale, shift) and has not been fitted yet, on up to `most` samples."""
    fit = getattr(codec, "fit", None)
    if fit is None or getattr(codec, "fitted", True):
        return
    n = data.size("train")
    index = torch.randperm(n, generator=generator(seed, "fit codec"))[:most].sort().values
    fit(data.batch("train", index).x1)
