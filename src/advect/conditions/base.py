"""What a model is told beside state and time: classes, vectors; and which of it is dropped for the null branch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import Part

Enters = Literal["token", "channels", "per_row", "vector"]


class Condition(Part, ABC):
    """One named condition."""

    name: str

    @property
    @abstractmethod
    def enters(self) -> Enters:
        """How a network takes it in: as a vector per sample, a token, extra channels, or per row."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of classes, or of features."""

    @property
    @abstractmethod
    def discrete(self) -> bool:
        """Whether values are class indices in [0, width); the null is then `width` itself."""

    def read(self, value: Any) -> Tensor:
        """What a user gives as a tensor: numbers here, one for all samples or with the batch first.

        Raises:
            InputError: If it is nothing of the kind.
        """
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.name} is {value!r}: give a number, or a list or tensor of them") from error

    @abstractmethod
    def null(self, like: Tensor) -> Tensor:
        """The value that stands for "not given", shaped like `like`."""

    @abstractmethod
    def check(self, value: Tensor) -> Tensor:
        """Return the value in its type, or raise InputError with a sentence that names what is wrong."""
