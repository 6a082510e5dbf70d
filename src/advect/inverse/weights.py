r"""The seat "how much the prior is trusted at each time": weights w(tau), tau = 1 - t, of FLAIR's prior steps.

A prior step is mu <- (1 - beta) mu + beta x1hat with beta = w Delta / sigma on the path, which is w / tau on the
straight one. Under a Gaussian prior N(m, s^2) the error mu - m is multiplied by 1 - beta (1 - t G), 0 <= t G < 1: beta
up to 1 never overshoots, beta < 2 never diverges, and beta >= 2 is refused.

Calibrated weights say at which times the prior is good: the error of its velocity on clean data,

    e(tau) = mean |v(x_t, t) - (x1 - x0)|^2 per element,      r = (1 / (e + 1e-7)) normalised to mean 1,

and w = gamma r (offset "none") or gamma max(r - r(0), 0) (offset "last").

Source: arXiv 2506.02680, section 3.4. The released settings all hold a key `reg-shift: 0.0`, whose presence alone
selects offset "none"; whoever drops that "zero" gets offset "last", a third less mass. Its
normalisation keeps beta below 2 for the two published tables and not for other priors (up to 3.7 on sharp mixtures,
which diverges), so here the weights are rescaled to a largest beta unless that is switched off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants import AffineInterpolant
from advect.parts import ModulePart, Part


class PriorWeights(Part, ABC):
    """Weights w of the prior at given times."""

    @abstractmethod
    def at(self, times: Sequence[float], path: AffineInterpolant) -> list[float]:
        """w at each of the times of a run, all inside (0, 1)."""


@dataclass(frozen=True)
class ConstantWeight(PriorWeights):
    """One w for all times: no calibration.

    Args:
        max_beta: The largest share beta of a run's prior steps, which fixes w; above 0.
    """

    max_beta: float = 0.85

    def __post_init__(self) -> None:
        _above_zero(self.max_beta)

    def at(self, times: Sequence[float], path: AffineInterpolant) -> list[float]:
        return rescale([1.0] * len(times), times, path, self.max_beta)


@dataclass(frozen=True)
class ConstantShare(PriorWeights):
    """One beta for all times: every prior step goes the same part of the way, w = beta tau on the straight path.

    Args:
        beta: The share, above 0.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        _above_zero(self.beta)

    def at(self, times: Sequence[float], path: AffineInterpolant) -> list[float]:
        return [self.beta / factor for factor in factors(times, path)]


class CalibratedWeights(ModulePart, PriorWeights):
    """Weights from the error of a field on clean data, found by ``advect calibrate --fit FitPriorWeights``.

    Args:
        offset: "none" (what all released settings come down to) or "last", which takes off the weight at tau = 0.
        gamma: Factor of the normalised weights; the released `regularizer_weight`.
        max_beta: Rescale so that the largest share of a run is this; None leaves the weights as released.
        fitted_on: Hash of the networks' weights that the error was measured on.
    """

    errors: Tensor

    def __init__(
        self,
        offset: Literal["none", "last"] = "none",
        gamma: float = 0.5,
        max_beta: float | None = 0.85,
        fitted_on: str | None = None,
    ) -> None:
        super().__init__()
        if offset not in ("none", "last"):
            raise InputError(f"offset is {offset!r}: choose none or last")
        if not gamma > 0:
            raise InputError(f"gamma is {gamma}: the factor of the weights is above 0")
        if max_beta is not None:
            _above_zero(max_beta)
        self.offset: Literal["none", "last"] = offset
        self.gamma, self.max_beta, self.fitted_on = gamma, max_beta, fitted_on
        self.register_buffer("errors", torch.empty(0))

    def fit(self, errors: Tensor) -> CalibratedWeights:
        """Take the errors e on tau = linspace(1, 0, n): index 0 is pure noise, the last one clean data.

        Raises:
            InputError: If there are fewer than two, or one is negative.
        """
        if errors.ndim != 1 or len(errors) < 2 or bool((errors < 0).any()):
            raise InputError(f"errors have shape {tuple(errors.shape)}: give at least two numbers, none below 0")
        self.errors = errors.detach().double().cpu()
        return self

    @property
    def table(self) -> Tensor:
        """w on tau = linspace(1, 0, n), before any rescaling, float64 (n,)."""
        if not len(self.errors):
            raise InputError("the prior weights are not calibrated: run advect calibrate --fit FitPriorWeights")
        r = 1 / (self.errors.double() + 1e-7)
        r = r / r.nansum() * len(r)
        if self.offset == "last":
            r = (r - r[-1]).clamp_min(0)
        return self.gamma * r

    def at(self, times: Sequence[float], path: AffineInterpolant) -> list[float]:
        table = self.table.tolist()
        found = [table[round(t * (len(table) - 1))] for t in times]  # the nearest grid point: tau = 1 - t
        return found if self.max_beta is None else rescale(found, times, path, self.max_beta)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """The table takes the file's length."""
        if (value := state_dict.get(prefix + "errors")) is not None:
            self.errors = torch.empty_like(value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def factors(times: Sequence[float], path: AffineInterpolant) -> list[float]:
    """beta / w at each time: Delta / sigma of the path, 1 / tau on the straight one."""
    return [float(c.delta / c.g) for c in map(path.coefficients, times)]


def rescale(weights: Sequence[float], times: Sequence[float], path: AffineInterpolant, max_beta: float) -> list[float]:
    """Weights times one number, so that the largest beta is `max_beta`."""
    largest = max(w * f for w, f in zip(weights, factors(times, path), strict=True))
    if not largest > 0:
        raise InputError("the prior weights are all zero at the times of this run: take offset='none' or more times")
    return [w * max_beta / largest for w in weights]


def _above_zero(beta: float) -> None:
    if not 0 < beta < 2:
        raise InputError(f"beta is {beta}: prior steps go a share between 0 and 2 of the way, from 2 on they diverge")
