r"""A field trained on one path, asked as if it had been trained on another.

With (a, g) the trained path and (A, G) the asked one, the time t of equal half log-SNR and the scale c = A/a = G/g make
``x/c`` at t the same state as ``x`` at T. Both ends follow there, and v = A' x1 + G' x0. The derivative of c is not
needed.

Source: arXiv 2510.21890 ("scale-time" change of a path); arXiv 2206.00364, section 3.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.errors import InputError
from advect.fields import Run, Step, bind
from advect.interpolants.affine import AffineInterpolant
from advect.parts import ModulePart


class ChangedPath(ModulePart):
    """A Field on the path `asked`, made of a field on the path `trained`.

    Args:
        field: ``f(x, t, **cond) -> v``, or a model with its own `bind`; a network's `spec` is passed on.
        trained: The path the field knows.
        asked: The path it is to act on. Times at which its log-SNR lies outside the trained path's are refused where
            they are numbers; a tensor of such times leads outside [0, 1], or to NaN where no time has that log-SNR.
    """

    def __init__(self, field: Callable[..., Any], trained: AffineInterpolant, asked: AffineInterpolant) -> None:
        super().__init__()
        self.field, self.trained, self.asked = field, trained, asked
        if hasattr(field, "spec"):
            self.spec: Any = field.spec  # pyright: ignore[reportFunctionMemberAccess]

    def forward(self, x: Tensor, t: Tensor | float, **cond: Any) -> Tensor:
        """v on the asked path at (x, t), shape of x."""
        return self._ask(lambda y, time: self.field(y, time, **cond), x, t)

    def bind(self, run: Run, role: str = "model", **cond: Any) -> Callable[..., Tensor]:
        """Bind the inner model; calls are counted there, and it is told its own times."""
        return _BoundChange(self, bind(self.field, run, role=role, **cond))

    def _ask(self, f: Callable[[Tensor, Tensor | float], Tensor], x: Tensor, t: Tensor | float) -> Tensor:
        if isinstance(t, Tensor):
            time, c, d_alpha, d_sigma = _change(self.trained, self.asked, t)
            c, d_alpha, d_sigma = expand_time(c, x), expand_time(d_alpha, x), expand_time(d_sigma, x)
        else:
            time, c, d_alpha, d_sigma = _change_at(self.trained, self.asked, t)
        y = x / c
        x0, x1 = self.trained.pair(f(y, time), y, time, "v")
        return d_alpha * x1 + d_sigma * x0


class _BoundChange:
    is_bound = True

    def __init__(self, change: ChangedPath, inner: Callable[..., Any]) -> None:
        self.change, self.inner = change, inner

    def __call__(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Tensor:
        if step is not None:
            trained, asked = self.change.trained, self.change.asked
            step = dataclasses.replace(
                step, r=_change_at(trained, asked, step.r)[0], t=_change_at(trained, asked, step.t)[0]
            )
        return self.change._ask(lambda y, time: self.inner(y, time, step=step), x, t)


def _change(trained: AffineInterpolant, asked: AffineInterpolant, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Trained time, c, A', G' at the asked times t."""
    half_log_snr = asked.half_log_snr(t)
    time = trained.time_of_half_log_snr(half_log_snr)
    # either ratio is c; the larger share makes the safe one
    near_data = half_log_snr > 0
    over = torch.where(near_data, asked.alpha(t), asked.sigma(t))
    under = torch.where(near_data, trained.alpha(time), trained.sigma(time))
    return time, over / under, asked.d_alpha(t), asked.d_sigma(t)


@functools.lru_cache(maxsize=4096)
def _change_at(trained: AffineInterpolant, asked: AffineInterpolant, t: float) -> tuple[float, float, float, float]:
    time, *rest = _change(trained, asked, torch.tensor(t, dtype=torch.float64, device="cpu"))
    if not -1e-12 <= float(time) <= 1 + 1e-12:
        raise InputError(
            f"t is {t}, where {asked} has a log-SNR that {trained}, the trained path, does not reach: "
            "begin later or end earlier"
        )
    return float(time), float(rest[0]), float(rest[1]), float(rest[2])
