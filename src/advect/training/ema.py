r"""Moving averages of weights, and any other average found after training from saved snapshots.

A power-function average of exponent gamma weighs the weights of step tau by p(tau) ~ tau^gamma up to now: its width
is a fixed share of the training so far. Its relative standard deviation sigma fixes gamma:

    sigma^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))

Source: "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, section 3 and appendix C.
"""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.parts import Part


@functools.cache
def exponent_of(std: float) -> float:
    """gamma of a power-function average of relative standard deviation `std`, in (0, 0.28].

    The largest real root of sigma^2 (gamma+2)^2 (gamma+3) = gamma + 1.
    """
    if not 0 < std <= 0.28:
        raise InputError(f"std is {std}: the relative width of a power-function average lies in (0, 0.28]")
    inverse = std**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


class EMA(Part, ABC):
    """A rule of averaging; it may keep several averages at once."""

    @abstractmethod
    def decays(self, step: int) -> tuple[float, ...]:
        """The share of the old average that is kept in step 0, 1, ..., for each average; the first is THE average."""

    @property
    def snapshot_every(self) -> int | None:
        """Steps between snapshots for :func:`reconstruct`, or None for none."""
        return None


@dataclass(frozen=True)
class ConstantEMA(EMA):
    r"""average <- d average + (1 - d) weights, d = min(decay, (1 + step) / (10 + step)) early on.

    Args:
        decay: Share of the old average that is kept, in [0, 1).
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise InputError(f"decay is {self.decay}: the share of the old average lies in [0, 1)")

    def decays(self, step: int) -> tuple[float, ...]:
        return (min(self.decay, (1 + step) / (10 + step)),)


@dataclass(frozen=True)
class PowerEMA(EMA):
    r"""average <- (1 - 1/n)^(gamma+1) average + ..., n = step + 1: the first step forgets the initial weights.

    Args:
        stds: Relative widths of the averages kept; the first is THE average. Two, (0.05, 0.1), serve
            reconstruction of any other.
        snapshots: Steps between saved snapshots for :func:`reconstruct`; None for none.
    """

    stds: tuple[float, ...] = (0.05,)
    snapshots: int | None = None

    def __post_init__(self) -> None:
        if not self.stds:
            raise InputError("stds is empty: name at least one width, like (0.05,)")
        for std in self.stds:
            exponent_of(std)  # refuses a width out of range; nothing is kept here, a part is its fields alone

    def decays(self, step: int) -> tuple[float, ...]:
        keep = step / (step + 1)
        return tuple(keep ** (exponent_of(std) + 1) for std in self.stds)

    @property
    def snapshot_every(self) -> int | None:
        return self.snapshots


class Averages:
    """Averaged copies of networks during a training.

    Args:
        rule: How they are averaged.
        networks: Networks by role; the copies start equal to them.
    """

    def __init__(self, rule: EMA, networks: Mapping[str, nn.Module]) -> None:
        self.rule = rule
        count = len(rule.decays(0))
        self.copies = [{role: _frozen_copy(net) for role, net in networks.items()} for _ in range(count)]
        self._networks = networks
        self.attach()

    def attach(self, local: Callable[[Tensor], Tensor] = Tensor.detach) -> None:
        """Find the tensors anew after the networks were wrapped (sharding replaces parameters).

        Args:
            local: The part of a tensor that this process holds; an average is taken number by number.
        """

        def all_of(networks: Mapping[str, nn.Module], kind: str) -> list[Tensor]:
            return [local(value) for net in networks.values() for value in getattr(net, kind)()]

        self._live, self._live_buffers = all_of(self._networks, "parameters"), all_of(self._networks, "buffers")
        self._averaged = [all_of(kept, "parameters") for kept in self.copies]
        self._buffers = [all_of(kept, "buffers") for kept in self.copies]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average in the weights as they are after this step; buffers are copied."""
        for decay, averaged, buffers in zip(self.rule.decays(step), self._averaged, self._buffers, strict=True):
            torch._foreach_lerp_(averaged, self._live, 1.0 - decay)  # pyright: ignore[reportPrivateImportUsage]
            if buffers:
                torch._foreach_copy_(buffers, self._live_buffers)  # pyright: ignore[reportPrivateImportUsage]

    def tensors(self, first: int = 0) -> dict[str, Tensor]:
        """Weights and buffers of the averages from number `first` on, by number, role and name."""
        return {
            f"{number}.{role}.{name}": value
            for number, kept in enumerate(self.copies)
            if number >= first
            for role, net in kept.items()
            for name, value in net.state_dict().items()
        }

    def networks(self) -> dict[str, nn.Module]:
        """THE averaged networks by role."""
        return self.copies[0]


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).requires_grad_(False).eval()
