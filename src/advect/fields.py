r"""Kinds of model at run time, and how one is bound to a trajectory.

A **field** is any callable ``f(x, t, **cond) -> v``; a **flow map** is ``f(x, r, t, **cond) -> u`` with
``X_{r->t}(x) = x + (t - r) u``. ``bind`` fixes the conditions for one trajectory, counts calls, and passes the place
in the trajectory (``step=``) to models that ask for it by having a method ``bind(run, **cond)`` of their own.

Convention: t=0 is the source, t=1 the data, v = dx/dt, batch first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from advect.broadcasting import as_time


@dataclass(frozen=True, slots=True)
class Step:
    """Where a call stands: step `index` of `count`, from time r to t, stage of a Runge-Kutta rule."""

    index: int
    count: int
    r: float
    t: float
    stage: int = 0


class Run:
    """One trajectory's counters and random numbers.

    Attributes:
        generator: Feeds every draw of the run.
        calls: Network calls by role ("model", "predictor", ...). A guided pair run as one batch is one call.
        rows: Rows that went through the network, by role: a guided pair run as one batch counts twice.
        log: What rules and wrappers note on the way, by name: a list of tensors on the device.
    """

    __slots__ = ("calls", "generator", "log", "rows")

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator
        self.calls: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.log: dict[str, list[Any]] = {}

    def count(self, role: str, rows: int) -> None:
        """Note one call of `rows` rows."""
        self.calls[role] += 1
        self.rows[role] += rows

    def note(self, name: str, value: Any) -> None:
        """Append a value to the log of that name."""
        self.log.setdefault(name, []).append(value)

    @property
    def nfe(self) -> int:
        """Network calls of all roles together."""
        return sum(self.calls.values())


def calls_text(calls: Mapping[str, int], each: str = "") -> str:
    """Network calls by role in words: "4 network calls", or "68 network calls (4 backbone, 64 head)".

    Args:
        calls: The number by role.
        each: What follows the number, such as " each".
    """
    total = sum(calls.values())
    roles = ", ".join(f"{number} {role}" for role, number in calls.items())
    return f"{total} network call{'' if total == 1 else 's'}{each}" + (f" ({roles})" if len(calls) > 1 else "")


@runtime_checkable
class FlowMap(Protocol):
    """A model of average velocity: ``f(x, r, t, **cond) -> u`` and ``velocity(x, t) = u(x, t, t)``."""

    def __call__(self, x: Tensor, r: Tensor, t: Tensor, **cond: Any) -> Tensor: ...

    def velocity(self, x: Tensor, t: Tensor, **cond: Any) -> Tensor: ...


@runtime_checkable
class TransitionKernel(Protocol):
    """A model of one stochastic transition: a backbone, run once, and a head that gives the inner velocity.

    ``features(x, k, **cond) -> h`` and ``head(y, s, k, h) -> u``, with y the inner state at inner time s in [0, 1].
    """

    def features(self, x: Tensor, k: Tensor, **cond: Any) -> Tensor: ...

    def head(self, y: Tensor, s: Tensor, k: Tensor, h: Tensor) -> Tensor: ...


Kind = Literal["field", "flow map", "kernel"]
"""What a model is: a velocity f(x, t), an average velocity f(x, r, t), or a stochastic transition."""


def kind_of(model: Any) -> Kind:
    """What kind of model this is: asked of its methods, so that wrappers may answer for what they wrap."""
    if isinstance(model, TransitionKernel):
        return "kernel"
    return "flow map" if isinstance(model, FlowMap) else "field"


class BoundKernel:
    r"""A transition kernel with its conditions fixed, counting calls of its backbone and of its head apart.

    One transition takes `rounds` rounds; each calls the backbone once (:meth:`look`) and draws as many tokens together
    by integrating the head's velocity over the inner time s. A kernel of two methods, ``features`` and ``head``, has
    one round and draws the whole state. One that draws token by token also has ``rounds`` and
    ``look(x, k, drawn, carry, **cond) -> (h, carry)``; one that cuts the state into tokens has ``tokens`` and
    ``untokens``.

    Args:
        model: The kernel.
        run: Takes up the counts, as "backbone" and "head" for the role "model".
        cond: Conditions by name, batch first.
        role: Of another role the names are "<role> backbone" and "<role> head".
    """

    __slots__ = ("_roles", "cond", "model", "run")

    is_bound = True

    def __init__(self, model: Any, run: Run, cond: dict[str, Any], role: str = "model") -> None:
        self.model, self.run, self.cond = model, run, cond
        self._roles = ("backbone", "head") if role == "model" else (f"{role} backbone", f"{role} head")

    @property
    def rounds(self) -> int:
        """Backbone calls of one transition, one after the other."""
        return getattr(self.model, "rounds", 1)

    def tokens(self, x: Tensor) -> Tensor:
        """The state as tokens (B, n, d), or as it is."""
        cut = getattr(self.model, "tokens", None)
        return x if cut is None else cut(x)

    def untokens(self, y: Tensor) -> Tensor:
        """The inverse of :meth:`tokens`."""
        join = getattr(self.model, "untokens", None)
        return y if join is None else join(y)

    def look(
        self, x: Tensor, k: Tensor | float, drawn: Tensor | None, carry: Any, step: Step | None = None
    ) -> tuple[Any, Any]:
        """Call the backbone: what the head is told in this round, and what the next round needs.

        Args:
            x: The state at time k (B, *shape).
            k: Its time.
            drawn: The tokens of the round before; None in the first round of a transition.
            carry: What the round before returned; None at the start of the trajectory.
            step: Where in the trajectory.
        """
        self.run.count(self._roles[0], x.shape[0])
        own = getattr(self.model, "look", None)
        if own is None:
            return self.model.features(x, as_time(k, x), **self.cond), None
        return own(x, as_time(k, x), drawn, carry, **self.cond)

    def velocity(self, y: Tensor, s: Tensor | float, k: Tensor | float, h: Any, step: Step | None = None) -> Tensor:
        """Call the head: the inner velocity at y and inner time s, shape of y."""
        self.run.count(self._roles[1], y.shape[0])
        return self.model.head(y, as_time(s, y), as_time(k, y), h)


class Bound:
    """A plain callable with its conditions fixed, counting its calls."""

    __slots__ = ("_calls", "_rows", "cond", "model", "role", "run")

    def __init__(self, model: Callable[..., Any], run: Run, cond: dict[str, Any], role: str = "model") -> None:
        self.model, self.run, self.cond, self.role = model, run, cond, role
        self._calls, self._rows = run.calls, run.rows

    def __call__(self, x: Tensor, *times: Tensor | float, step: Step | None = None) -> Any:
        self._calls[self.role] += 1
        self._rows[self.role] += x.shape[0] if x.ndim else 1
        if len(times) == 1:
            return self.model(x, as_time(times[0], x), **self.cond)
        return self.model(x, *[as_time(t, x) for t in times], **self.cond)


def bind(model: Any, run: Run | None = None, *, role: str = "model", **cond: Any) -> Callable[..., Any]:
    """Bind a model to a run and its conditions.

    Args:
        model: Any callable ``f(x, t, **cond)`` or flow map ``f(x, r, t, **cond)``; one with its own method
            ``bind(run, role=..., **cond)`` lays itself out (guidance, caches, condition encoders run once).
        run: Counters and generator; a new one if None.
        role: The name under which calls are counted.
        **cond: Conditions by name, tensors with the batch first.

    Returns:
        A callable ``f(x, t, step=None)`` (or ``f(x, r, t, step=None)``), or a :class:`BoundKernel`, to be thrown away
        after the trajectory.
    """
    if getattr(model, "is_bound", False) or isinstance(model, Bound):
        return model
    run = Run() if run is None else run
    own = getattr(model, "bind", None)
    if callable(own):
        return own(run, role=role, **cond)  # pyright: ignore[reportReturnType]
    if isinstance(model, TransitionKernel):
        return BoundKernel(model, run, cond, role)  # pyright: ignore[reportReturnType]
    return Bound(model, run, cond, role)
