"""The processes of a training: one, or several that accelerate or torchrun has launched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.training.module import Trained


class Processes:
    """One process alone.

    Args:
        device: "auto", or a device by name.
    """

    index: int = 0
    count: int = 1

    def __init__(self, device: str = "auto") -> None:
        self.device = find_device(device)

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.index == 0

    def share(self, module: nn.Module) -> None:
        """Give all processes the weights that the main one has. Collective."""

    def wrap(self, module: Trained, averaged: Sequence[nn.Module] = (), *, alternate: bool = False) -> nn.Module:
        """Make the gradients of this module those of all processes.

        Args:
            module: What is trained.
            averaged: Copies of its networks, laid out as these are.
            alternate: Whether a step may leave networks aside.
        """
        return module

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within, a backward pass leaves the gradients of other processes aside (all shards but the last)."""
        return contextlib.nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes."""
        return value

    def whole(self, networks: dict[str, nn.Module]) -> dict[str, nn.Module]:
        """The same networks with all of their weights in one place. Collective."""
        return networks

    def gather(self, value: Tensor) -> Tensor:
        """The whole of a tensor that may be spread over processes. Collective."""
        return value

    def local(self, value: Tensor) -> Tensor:
        """The part of a tensor that this process holds, without its history."""
        return value.detach()

    def spread(self, value: Tensor, target: Tensor) -> None:
        """Copy a whole tensor into one that may be spread over processes."""
        if value.shape != target.shape:
            raise InputError(f"a weight of shape {tuple(value.shape)} does not fit one of {tuple(target.shape)}")
        target.copy_(value)

    def like(self, value: Tensor, target: Tensor) -> Tensor:
        """A whole tensor, laid out as another one is."""
        return value.to(target.device)

    def seed(self, seed: int) -> None:
        """Seed the global generators of CPU and device; `torch.manual_seed` also looks at devices that are not here."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)
        elif self.device.type != "cpu":
            torch.manual_seed(seed)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag

    def wait(self) -> None:
        """Until all processes are here."""


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU if there is one."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device is {name!r}, which cannot be used here ({error}): give 'auto' or 'cpu'") from error
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return device


def find_processes(device: str) -> Processes:
    """This process alone, or one of those that `accelerate launch` or `torchrun` has started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(device)
    from advect.training.launched import Launched

    return Launched(device)
