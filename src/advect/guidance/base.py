"""The seat "how it is steered": a rule combines the conditional prediction with a reference prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from advect.fields import Run, Step
from advect.parts import Part

Space = Literal["any", "v", "x1", "x0"]
Rule = Callable[[Tensor, Tensor, Step | None, Run], Tensor]


class Guidance(Part, ABC):
    """A rule ``(v_c, v_null, step, run) -> v``; w=1 is plain conditional sampling everywhere.

    In a list of rules each one takes the result of the one before as its conditional prediction.
    """

    @property
    def acts_on(self) -> Space:
        """The prediction it is applied to; "any" for affine rules, norm-based ones depend on the choice."""
        return "v"

    @property
    def against(self) -> Literal["null", "weak"]:
        """The reference: the same model under the null conditions, or a weaker model under the same conditions."""
        return "null"

    def needs_null(self, t: float) -> bool:
        """Whether the rule acts at time t; where none does, the reference is not computed."""
        return True

    def mask(self, t: Tensor) -> Tensor | None:
        """Where it acts, for times per sample; None for everywhere."""
        return None

    def begin(self) -> Rule:
        """The rule for one trajectory; one that remembers earlier steps gives a new memory here."""
        return self

    @abstractmethod
    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        """Combine the conditional and the reference prediction, both (B, *shape), in the space `acts_on`."""
