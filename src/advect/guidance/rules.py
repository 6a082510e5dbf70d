"""Affine rules, and wrappers of rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, Step
from advect.guidance.base import Guidance, Rule, Space
from advect.interpolants import AffineInterpolant


def spread(scale: Tensor | float, like: Tensor) -> Tensor | float:
    """A scale per sample (B,), shaped to multiply `like`; a number stays one."""
    if not isinstance(scale, Tensor) or scale.ndim == 0:
        return scale
    if scale.shape != like.shape[:1]:
        raise InputError(
            f"scale has shape {tuple(scale.shape)}, but there are {like.shape[0]} samples: give a number, or one each"
        )
    return scale.to(like).reshape(-1, *([1] * (like.ndim - 1)))


def extrapolate(v_c: Tensor, reference: Tensor, scale: Tensor | float) -> Tensor:
    """reference + scale (v_c - reference)."""
    return torch.lerp(reference, v_c, spread(scale, v_c))


def acts(scale: Tensor | float) -> bool:
    """Whether a scale differs from plain sampling."""
    return isinstance(scale, Tensor) or scale != 1.0


@dataclass(frozen=True)
class CFG(Guidance):
    """Classifier-free guidance, v_null + w (v_c - v_null); affine, so the same in every prediction.

    Args:
        scale: w; 1 is plain conditional sampling (and costs no null pass), 0 unconditional. In code a tensor (B,)
            gives each sample its own; a recipe holds a number.

    Source: arXiv 2207.12598, which writes 1 + w for this w.
    """

    scale: float = 3.0

    @property
    def acts_on(self) -> Space:
        return "any"

    def needs_null(self, t: float) -> bool:
        return acts(self.scale)

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        return extrapolate(v_c, v_null, self.scale)


@dataclass(frozen=True)
class AutoGuidance(Guidance):
    """v_weak + w (v_c - v_weak), with a weaker model (smaller, or trained less) under the same conditions.

    Args:
        scale: w; 1 is plain sampling. In code a tensor (B,) gives each sample its own.

    Source: arXiv 2406.02507 eq. 2.
    """

    scale: float = 2.0

    @property
    def acts_on(self) -> Space:
        return "any"

    @property
    def against(self) -> Literal["null", "weak"]:
        return "weak"

    def needs_null(self, t: float) -> bool:
        return acts(self.scale)

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        return extrapolate(v_c, v_null, self.scale)


@dataclass(frozen=True)
class Interval(Guidance):
    """A rule that acts only between two times, or two log-SNRs; elsewhere plain sampling without a null pass.

    Args:
        rule: The rule.
        low: First time at which it acts, or first half log-SNR if `interpolant` is given.
        high: Last time at which it acts, or last half log-SNR.
        interpolant: The path whose half log-SNR `low` and `high` are; None for times.

    Source: arXiv 2404.07724.
    """

    rule: Guidance
    low: float = 0.0
    high: float = 1.0
    interpolant: AffineInterpolant | None = None

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise InputError(f"low={self.low}, high={self.high}: the interval of guidance has low <= high")

    @property
    def acts_on(self) -> Space:
        return self.rule.acts_on

    @property
    def against(self) -> Literal["null", "weak"]:
        return self.rule.against

    def needs_null(self, t: float) -> bool:
        if self.interpolant is None:
            return self.low <= t <= self.high and self.rule.needs_null(t)
        return bool(self._inside(torch.tensor(t, dtype=torch.float64))) and self.rule.needs_null(t)

    def mask(self, t: Tensor) -> Tensor | None:
        inner, inside = self.rule.mask(t), self._inside(t)
        return inside if inner is None else inside & inner

    def begin(self) -> Rule:
        return self.rule.begin()

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        return self.rule(v_c, v_null, step, run)

    def _inside(self, t: Tensor) -> Tensor:
        place = t if self.interpolant is None else self.interpolant.half_log_snr(t)
        return (place >= self.low) & (place <= self.high)


@dataclass(frozen=True)
class Rescale(Guidance):
    """phi out std(v_c)/std(out) + (1 - phi) out, where out is what another rule gives; std per sample.

    Args:
        rule: The rule, usually CFG.
        phi: 0 leaves it as it is, 1 gives it the spread of the conditional prediction.
        space: The prediction whose spread is meant: "v", "x1" or "x0" (eps); they differ. Published code takes the raw
            output of the network, whichever it is.

    Source: arXiv 2305.08891 eq. 15 and 16.
    """

    rule: Guidance = CFG()
    phi: float = 0.7
    space: Literal["v", "x1", "x0"] = "v"

    def __post_init__(self) -> None:
        if not 0 <= self.phi <= 1:
            raise InputError(f"phi is {self.phi}: it runs from 0 (no rescaling) to 1")
        if self.rule.acts_on not in ("any", self.space):
            raise InputError(
                f"space is {self.space!r}, but {type(self.rule).__name__} acts on {self.rule.acts_on!r}: "
                f"set space={self.rule.acts_on!r}"
            )

    @property
    def acts_on(self) -> Space:
        return self.space

    @property
    def against(self) -> Literal["null", "weak"]:
        return self.rule.against

    def needs_null(self, t: float) -> bool:
        return self.rule.needs_null(t)

    def mask(self, t: Tensor) -> Tensor | None:
        return self.rule.mask(t)

    def begin(self) -> Rule:
        inner = self.rule.begin()
        return lambda v_c, v_null, step, run: self._rescaled(v_c, inner(v_c, v_null, step, run))

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        return self._rescaled(v_c, self.rule(v_c, v_null, step, run))

    def _rescaled(self, v_c: Tensor, out: Tensor) -> Tensor:
        spread_c, spread_out = (y.flatten(1).std(1, correction=0) for y in (v_c, out))
        ratio = torch.where(spread_out > 0, spread_c / spread_out, 1.0)  # a constant output has nothing to rescale
        return out * spread(self.phi * ratio + (1 - self.phi), out)
