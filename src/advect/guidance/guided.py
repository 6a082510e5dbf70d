"""The wrapper that puts rules on a field: it lays out the pair of predictions and counts what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from advect.conditions import Conditions
from advect.errors import InputError
from advect.fields import Run, Step, bind
from advect.guidance.base import Guidance, Rule
from advect.interpolants import AffineInterpolant, Interpolant, Linear


class Guided:
    """A field under guidance is a field: any solver takes it.

    Args:
        model: A field ``f(x, t, **cond)``, or a flow map ``f(x, r, t, **cond)`` under rules that act on any or "v".
        rules: Applied in this order.
        conditions: Say what the null of each condition is.
        batched: Run conditional and null as one batch (one call, twice the rows), or one after the other (two calls).
        weak: The weaker model that autoguidance compares with.
        interpolant: The path, for rules that act on x1 or x0.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        rules: Guidance | Sequence[Guidance],
        conditions: Conditions | None = None,
        batched: bool = True,
        weak: Callable[..., Any] | None = None,
        interpolant: Interpolant | None = None,
    ) -> None:
        self.model, self.weak, self.batched = model, weak, batched
        self.rules = (rules,) if isinstance(rules, Guidance) else tuple(rules)
        self.conditions = Conditions() if conditions is None else conditions
        self.interpolant: Interpolant = Linear() if interpolant is None else interpolant
        for rule in self.rules:
            if rule.against == "weak" and weak is None:
                raise InputError(
                    f"{type(rule).__name__} compares with a weaker model: pass weak=, give the flow one with "
                    "compare_with, or name one with --weak on the command line"
                )
            if rule.acts_on in ("x1", "x0") and not isinstance(self.interpolant, AffineInterpolant):
                raise InputError(
                    f"{type(rule).__name__} acts on {rule.acts_on}, which the path "
                    f"{type(self.interpolant).__name__} does not give: take a rule that acts on v, such as CFG"
                )

    def bind(self, run: Run, role: str = "model", **cond: Any) -> BoundGuided:
        """Fix the conditions for one trajectory; the pair is laid out once."""
        return BoundGuided(self, run, role, cond)

    def __call__(self, x: Tensor, *times: Tensor | float, **cond: Any) -> Tensor:
        return self.bind(Run(), **cond)(x, *times)


class BoundGuided:
    """One trajectory of a guided field; to be thrown away after it."""

    is_bound = True

    def __init__(self, guided: Guided, run: Run, role: str, cond: dict[str, Any]) -> None:
        self.guided, self.run, self.role, self.cond = guided, run, role, cond
        self.rules: list[tuple[Guidance, Rule]] = [(rule, rule.begin()) for rule in guided.rules]
        self.plain = bind(guided.model, run, role=role, **cond)
        self.weak = None if guided.weak is None else bind(guided.weak, run, role="weak", **cond)
        self.other: Callable[..., Any] | None = None  # the pair (batched) or the null (two passes), once needed

    def __call__(self, x: Tensor, *times: Tensor | float, step: Step | None = None) -> Tensor:
        t = times[0]
        if isinstance(t, Tensor) and t.ndim == 0:
            t = float(t)
        active = [item for item in self.rules if isinstance(t, Tensor) or item[0].needs_null(t)]
        references: dict[str, Tensor] = {}
        if any(rule.against == "null" for rule, _ in active):
            v, references["null"] = self._with_null(x, times, step)
        else:
            v = self.plain(x, *times, step=step)
        if self.weak is not None and any(rule.against == "weak" for rule, _ in active):
            references["weak"] = self.weak(x, *times, step=step)
        for rule, call in active:
            out = self._applied(rule, call, v, references[rule.against], x, t, len(times), step)
            mask = rule.mask(t) if isinstance(t, Tensor) else None
            v = out if mask is None else torch.where(mask.reshape(-1, *([1] * (x.ndim - 1))), out, v)
        return v

    def _with_null(self, x: Tensor, times: tuple[Tensor | float, ...], step: Step | None) -> tuple[Tensor, Tensor]:
        if self.other is None:
            self.other = self._lay_out()
        if not self.guided.batched:
            return self.plain(x, *times, step=step), self.other(x, *times, step=step)
        twice = [torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t for t in times]
        both = self.other(torch.cat([x, x]), *twice, step=step)
        return both[: x.shape[0]], both[x.shape[0] :]

    def _lay_out(self) -> Callable[..., Any]:
        if not self.cond:
            raise InputError("guidance compares with the null condition, but no condition is given: pass one")
        null = self.guided.conditions.null(self.cond)
        if self.guided.batched:
            null = {name: torch.cat([value, null[name]]) for name, value in self.cond.items()}
        return bind(self.guided.model, self.run, role=self.role, **dict[str, Any](null))

    def _applied(
        self,
        rule: Guidance,
        call: Rule,
        v: Tensor,
        reference: Tensor,
        x: Tensor,
        t: Tensor | float,
        times: int,
        step: Step | None,
    ) -> Tensor:
        space = rule.acts_on
        if space not in ("x1", "x0"):
            return call(v, reference, step, self.run)
        path = self.guided.interpolant
        assert isinstance(path, AffineInterpolant)
        name = type(rule).__name__
        if times != 1:
            raise InputError(f"{name} acts on {space}, which an average velocity does not give: take CFG")
        if not isinstance(t, Tensor):
            c = path.coefficients(t)
            if float(c.g if space == "x1" else c.a) == 0.0:
                raise InputError(
                    f"{name} acts on {space}, which does not give the velocity at t={t:g}: put it in an Interval, "
                    "or take a solver that makes no call there, such as EulerLast(Heun())"
                )
        out = call(path.convert(v, x, t, "v", space), path.convert(reference, x, t, "v", space), step, self.run)
        return path.convert(out, x, t, space, "v")
