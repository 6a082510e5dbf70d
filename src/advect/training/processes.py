"""The processes of a training: one, or several that accelerate or torchrun has launched."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from advect.errors import InputError


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

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make the gradients of this module those of all processes."""
        return module

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        """Within, a backward pass leaves the gradients of other processes aside (all shards but the last)."""
        return contextlib.nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes."""
        return value

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
