"""The wrapper that puts rules on a transition kernel: they act on the head's inner velocity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advect.conditions import Conditions
from advect.errors import InputError
from advect.fields import BoundKernel, Run, Step
from advect.guidance.base import Guidance, Rule


class GuidedKernel:
    r"""A kernel under guidance: u = rule(u_c, u_null), with features of both backbone passes, conditional and null.

    Guiding what is drawn, after the inner integration, is another thing: a draw is no affine function of u.

    Args:
        model: A transition kernel.
        rules: Applied in this order; their time is that of the state.
        conditions: Say what the null of each condition is.
        batched: Run conditional and null as one batch (one call, twice the rows), or one after the other (two calls).

    Raises:
        InputError: If a rule compares with a weaker model or acts on a prediction that a head does not give.

    Source: arXiv 2506.23589 section 4.1.
    """

    def __init__(
        self,
        model: Any,
        rules: Guidance | Sequence[Guidance],
        conditions: Conditions | None = None,
        batched: bool = True,
    ) -> None:
        self.model, self.batched = model, batched
        self.rules = (rules,) if isinstance(rules, Guidance) else tuple(rules)
        self.conditions = Conditions() if conditions is None else conditions
        for rule in self.rules:
            if rule.against != "null" or rule.acts_on not in ("any", "v"):
                raise InputError(
                    f"{type(rule).__name__} compares with a weaker model or acts on a prediction of the data, and the "
                    "head of a transition kernel has a velocity under null conditions alone: take CFG"
                )

    def bind(self, run: Run, role: str = "model", **cond: Any) -> BoundGuidedKernel:
        """Fix the conditions for one trajectory; the pair is laid out once."""
        return BoundGuidedKernel(self, run, role, cond)


class _Pair(NamedTuple):
    """Features, or what is carried, of both passes: one value for the batch of both, or (conditional, null)."""

    both: Any


class BoundGuidedKernel:
    """One trajectory of a guided kernel; to be thrown away after it."""

    is_bound = True

    def __init__(self, guided: GuidedKernel, run: Run, role: str, cond: dict[str, Any]) -> None:
        self.guided, self.run = guided, run
        self.rules: list[tuple[Guidance, Rule]] = [(rule, rule.begin()) for rule in guided.rules]
        self.plain = BoundKernel(guided.model, run, cond, role)
        self.other: BoundKernel | None = None
        self.role, self.cond = role, cond

    @property
    def rounds(self) -> int:
        """Backbone calls of one transition, one after the other."""
        return self.plain.rounds

    @property
    def tokens(self) -> Callable[[Tensor], Tensor]:
        """The state as tokens (B, n, d), or as it is."""
        return self.plain.tokens

    @property
    def untokens(self) -> Callable[[Tensor], Tensor]:
        """The inverse of :attr:`tokens`."""
        return self.plain.untokens

    def look(
        self, x: Tensor, k: Tensor | float, drawn: Tensor | None, carry: Any, step: Step | None = None
    ) -> tuple[Any, Any]:
        """Both backbone passes; where no rule acts at time k, the conditional one alone."""
        # a kernel that carries what both passes have seen may miss a token in neither, also where a state is one token
        if not hasattr(self.guided.model, "look") and not self._active(k):
            return self.plain.look(x, k, drawn, carry, step=step)
        if self.other is None:
            self.other = self._lay_out()
        if not self.guided.batched:
            seen = (None, None) if carry is None else carry.both
            found = [
                kernel.look(x, k, drawn, c, step=step) for kernel, c in zip((self.plain, self.other), seen, strict=True)
            ]
            return _Pair([h for h, _ in found]), _Pair([c for _, c in found])
        h, carry = self.other.look(
            torch.cat([x, x]),
            _twice(k),
            None if drawn is None else torch.cat([drawn, drawn]),
            None if carry is None else carry.both,
            step=step,
        )
        return _Pair(h), _Pair(carry)

    def velocity(self, y: Tensor, s: Tensor | float, k: Tensor | float, h: Any, step: Step | None = None) -> Tensor:
        """The head's velocity for both features, combined by the rules."""
        if not isinstance(h, _Pair):
            return self.plain.velocity(y, s, k, h, step=step)
        assert self.other is not None
        if self.guided.batched:
            both = self.other.velocity(torch.cat([y, y]), _twice(s), _twice(k), h.both, step=step)
            u, null = both[: y.shape[0]], both[y.shape[0] :]
        else:
            u, null = (
                kernel.velocity(y, s, k, one, step=step)
                for kernel, one in zip((self.plain, self.other), h.both, strict=True)
            )
        for rule, call in self.rules:
            if isinstance(k, Tensor) or rule.needs_null(k):
                u = call(u, null, step, self.run)
        return u

    def _active(self, k: Tensor | float) -> bool:
        return any(isinstance(k, Tensor) or rule.needs_null(k) for rule, _ in self.rules)

    def _lay_out(self) -> BoundKernel:
        if not self.cond:
            raise InputError("guidance compares with the null condition, but no condition is given: pass one")
        null = self.guided.conditions.null(self.cond)
        if self.guided.batched:
            null = {name: torch.cat([value, null[name]]) for name, value in self.cond.items()}
        return BoundKernel(self.guided.model, self.run, dict[str, Any](null), self.role)


def _twice(t: Tensor | float) -> Tensor | float:
    return torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t
