"""The seat "how it is steered": a rule combines the conditional and the null prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from torch import Tensor

from advect.fields import Run, Step
from advect.parts import Part


class Guidance(Part, ABC):
    """A rule ``(v_c, v_null, step, run) -> v``; w=1 is plain conditional sampling everywhere."""

    @property
    def acts_on(self) -> Literal["v", "x1"]:
        """The prediction it is applied to; norm-based rules are not invariant to this choice."""
        return "v"

    def needs_null(self, t: float) -> bool:
        """Whether the null prediction is needed at time t (an interval saves calls)."""
        return True

    @abstractmethod
    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        """Combine the conditional and the null prediction, both (B, *shape)."""
