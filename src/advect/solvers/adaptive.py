"""Adaptive Dormand-Prince 5(4): FSAL, PI step control, either direction, and a status whatever happens."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, bind
from advect.solvers.base import Context, GridLike, Solver, nodes, working_precision

Status = Literal["reached", "max_steps", "min_step", "not_finite"]

_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),  # also the fifth-order weights: first same as last
)
_C = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
_ALPHA, _BETA = 0.2 - 0.75 * 0.04, 0.04  # PI exponents of the present and the previous error, as in Hairer's DOPRI5
_SAFETY, _SMALLEST, _LARGEST = 0.9, 0.2, 10.0


class AdaptiveResult(NamedTuple):
    """What an adaptive run has, whether or not it got to the end.

    Attributes:
        x: The state at `t`, the last accepted one.
        t: The time reached.
        status: "reached"; "max_steps"; "min_step" (the error asks for steps below the resolution of time);
            "not_finite" (the field gives no finite values at the smallest step).
        steps: Accepted steps.
        rejected: Rejected steps.
    """

    x: Tensor
    t: float
    status: Status
    steps: int
    rejected: int

    @property
    def reached(self) -> bool:
        """Whether the run got to the end."""
        return self.status == "reached"


class NotReached(RuntimeError):
    """An adaptive run did not get to the end; `result` holds what it has."""

    def __init__(self, result: AdaptiveResult, end: float) -> None:
        reason = {
            "max_steps": "max_steps was used up: raise max_steps or the tolerances",
            "min_step": "the error asks for steps below the resolution of time: raise the tolerances",
            "not_finite": "the field gives no finite values from there: look at it near that time",
        }[result.status]
        super().__init__(
            f"the adaptive solver stopped at t={result.t:.6g} of {end:.6g} after {result.steps} steps and "
            f"{result.rejected} rejected ones: {reason}"
        )
        self.result = result


@dataclass(frozen=True)
class DormandPrince(Solver):
    r"""Dormand-Prince 5(4) with step control on RMS(error / (atol + rtol max(|x|, |x'|))) over the whole batch.

    Six calls a step (the last stage is the first of the next step), two more to start. A call of the solver goes
    from the first to the last time of the grid in one go; with `record` or `project` it stops at every node. Each
    step waits once for the device, since the decision to accept it is taken in Python: an adaptive solver cannot
    do without, and on a GPU with a small model a fixed grid is faster.

    Args:
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        max_steps: Most steps, rejected ones included.
        first_step: Size of the first step; None chooses it by Hairer's rule (one call).

    Source: Dormand and Prince 1980; Hairer, Norsett, Wanner, Solving Ordinary Differential Equations, sections II.4
    and II.5, and IV.2 for PI control.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_steps: int = 10_000
    first_step: float | None = None

    def __post_init__(self) -> None:
        if not (self.rtol >= 0 and self.atol >= 0 and self.rtol + self.atol > 0):
            raise InputError(f"rtol={self.rtol}, atol={self.atol}: tolerances are not negative and not both 0")
        if self.max_steps < 1:
            raise InputError(f"max_steps is {self.max_steps}: at least 1 step is needed")
        if self.first_step is not None and not self.first_step > 0:
            raise InputError(f"first_step is {self.first_step}: give the size of the first step, above 0, or None")

    def landmarks(self, times: list[float], every: bool) -> list[float]:
        return times if every else [times[0], times[-1]]

    def step(
        self, f: Callable[..., Tensor], x: Tensor, r: float, t: float, carry: Any, run: Run, context: Context
    ) -> tuple[Tensor, Any]:
        result, h = self._go(f, x, r, t, carry)
        if not result.reached:
            raise NotReached(result, t)
        return result.x, h

    def solve(
        self, f: Callable[..., Any], x: Tensor, grid: GridLike = 1, run: Run | None = None, **cond: Any
    ) -> AdaptiveResult:
        """Go from the first to the last time of the grid and say how it went, without raising.

        Args:
            f: A field ``f(x, t)``, bound or plain.
            x: Start state (B, *shape).
            grid: A Grid, or the list of times; 1 stands for 0 to 1.
            run: Counters.
            **cond: Conditions of f, if it is not bound.
        """
        times, _ = nodes(grid)
        return self._go(bind(f, run, **cond), working_precision(x), times[0], times[-1], None)[0]

    def _go(
        self, f: Callable[..., Tensor], x: Tensor, r: float, end: float, h: float | None
    ) -> tuple[AdaptiveResult, float | None]:
        """Integrate from r to end, beginning with a step of size h; also the size for the step after."""
        if r == end:
            return AdaptiveResult(x, end, "reached", 0, 0), h
        stages = _Stages(x, self.rtol, self.atol)
        k = f(x, r).to(x.dtype)
        span = end - r
        direction = math.copysign(1.0, span)
        if h is None:
            h = self.first_step if self.first_step is not None else _first_step(f, x, k, r, span, self.rtol, self.atol)
        steps = rejected = 0
        before, grow = 1.0, _LARGEST
        t = r
        while True:
            left = abs(end - t)
            if left == 0:
                return AdaptiveResult(x, end, "reached", steps, rejected), h
            if steps + rejected >= self.max_steps:
                return AdaptiveResult(x, t, "max_steps", steps, rejected), h
            final = h >= left * (1 - 1e-9)
            size = left if final else left / 2 if h > 0.75 * left else h  # no sliver for a last step
            if size < 16 * math.ulp(max(abs(t), abs(end))) and not final:
                return AdaptiveResult(x, t, "min_step" if math.isfinite(before) else "not_finite", steps, rejected), h
            x_new, k_new, error = stages(f, x, k, t, direction * size, end if final else t + direction * size)
            if error <= 1.0:
                factor = _SAFETY * error**-_ALPHA * before**_BETA if error > 0 else _LARGEST
                next_size = size * min(grow, max(_SMALLEST, factor))
                h = max(h, next_size) if final else next_size  # a step cut short at the end says nothing of h
                x, k, t = x_new, k_new, end if final else t + direction * size
                before, grow = max(error, 1e-4), _LARGEST
                steps += 1
                continue
            rejected += 1
            if math.isfinite(error):
                h = size * max(_SMALLEST, _SAFETY * error ** (-1 / 5))
                before = max(before, 1e-4) if math.isfinite(before) else 1.0
            else:
                h, before = size * _SMALLEST, math.inf
            grow = 1.0  # do not grow right after a rejection


@functools.lru_cache(maxsize=32)
def _tableau(dtype: torch.dtype, device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """Rows of stage weights, and the weights of the error estimate."""
    with torch.inference_mode(False):
        rows = tuple(torch.tensor(row, dtype=dtype, device=device) for row in _A)
        return rows, torch.tensor(_ERROR, dtype=dtype, device=device)


class _Stages:
    """The seven stages as matrix-vector products over stacked slopes: few operations whatever the state's size."""

    def __init__(self, x: Tensor, rtol: float, atol: float) -> None:
        self.rtol, self.atol = rtol, atol
        self.rows, self.errors = _tableau(x.dtype, x.device)
        self.root = math.sqrt(max(x.numel(), 1))
        if torch.is_grad_enabled():
            self.slots = None
        else:
            buffer = x.new_empty(7, x.numel())
            self.slots = buffer.unbind()
            self.heads = [buffer[: i + 1].t() for i in range(7)]

    def __call__(
        self, f: Callable[..., Tensor], x: Tensor, k: Tensor, t: float, h: float, end: float
    ) -> tuple[Tensor, Tensor, float]:
        """One trial step: the new state, its slope, and the scaled RMS error."""
        slots, flat = self.slots, x.reshape(-1)
        ks: list[Tensor] = []
        y = flat
        for i, row in enumerate(self.rows):
            slopes = self._keep(slots, ks, i, k)
            y = torch.addmv(flat, slopes, row, alpha=h)
            k = f(y.view(x.shape), end if i >= 4 else t + _C[i] * h).to(x.dtype)
        with torch.no_grad():
            slopes = self._keep(slots, ks, 6, k)
            scale = torch.maximum(flat.abs(), y.abs()).mul_(self.rtol).add_(self.atol)
            ratio = torch.mv(slopes, self.errors).div_(scale)
            error = abs(h) * float(torch.linalg.vector_norm(ratio)) / self.root
        return y.view(x.shape), k, error if error == error else math.inf

    def _keep(self, slots: tuple[Tensor, ...] | None, ks: list[Tensor], i: int, k: Tensor) -> Tensor:
        """The slopes so far as columns; written into one buffer, or stacked where gradients are on."""
        if slots is not None:
            slots[i].copy_(k.reshape(-1))
            return self.heads[i]
        ks.append(k.reshape(-1))
        return torch.stack(ks, 1)


@torch.no_grad()
def _first_step(
    f: Callable[..., Tensor], x: Tensor, k: Tensor, t: float, span: float, rtol: float, atol: float
) -> float:
    """Hairer's first guess of the step size: from the sizes of state, slope and change of slope."""
    scale = x.abs().mul_(rtol).add_(atol)
    root = math.sqrt(max(x.numel(), 1))
    state = float(torch.linalg.vector_norm(x / scale)) / root
    slope = float(torch.linalg.vector_norm(k / scale)) / root
    guess = 1e-6 if state < 1e-5 or slope < 1e-5 else 0.01 * state / slope
    guess = min(guess, abs(span)) if math.isfinite(guess) else 1e-6
    signed = math.copysign(guess, span)
    bend = float(torch.linalg.vector_norm((f(x + signed * k, t + signed) - k) / scale)) / root / guess
    largest = max(slope, bend)
    second = (0.01 / largest) ** 0.2 if math.isfinite(largest) and largest > 1e-15 else max(1e-6, guess * 1e-3)
    return min(100 * guess, second, abs(span)) or abs(span)
