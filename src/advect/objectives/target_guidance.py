"""Classifier-free guidance inside a training target, so that sampling needs none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.batch import Batch
from advect.errors import InputError
from advect.parts import Part


@dataclass(frozen=True)
class TargetGuidance(Part):
    r"""A velocity that is guided by the flow map under training itself.

        v_g = omega v + (1 - omega - kappa) u(x, r, r | null) + kappa u(x, r, r | c)    where start <= r <= end
        v_g = v    elsewhere, and for samples whose conditions were dropped

    At its fixed point u(x, r, r | c) = v_g this is v_null + s (v - v_null) with the scale s = omega / (1 - kappa).
    The flow then answers guided in one call; guidance must not be put on it once more when it is sampled.

    Args:
        omega: Weight of the data's velocity.
        kappa: Weight of the model's own conditional velocity, in [0, 1): kappa > 0 lets a scale build up from noisy
            one-point velocities with less noise, for one more call of the model.
        start: Smallest time at which it guides, in [0, 1]; t=0 is the noise.
        end: Largest time at which it guides, in [start, 1].

    Raises:
        InputError: If kappa or the interval lie outside, or the batch has no condition.

    Source: arXiv 2505.13447, section 4.2 and appendix A.1 (B/4: omega 1, kappa 0.5, so s = 2).
    """

    omega: float = 1.0
    kappa: float = 0.5
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.kappa < 1.0:
            raise InputError(f"kappa is {self.kappa}: it lies in [0, 1), the scale is omega / (1 - kappa)")
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise InputError(f"start={self.start}, end={self.end}: guidance needs 0 <= start <= end <= 1")

    @property
    def scale(self) -> float:
        """omega / (1 - kappa): what it amounts to."""
        return self.omega / (1 - self.kappa)

    @torch.no_grad()
    def __call__(self, model: Callable[..., Tensor], x: Tensor, r: Tensor, v: Tensor, batch: Batch) -> Tensor:
        """v_g, shape of x.

        Args:
            model: The flow map ``u(x, r, t, **cond)``, at rest; without conditions it answers for the null.
            x: State (B, *shape) at r.
            r: Time (B,).
            v: The data's velocity, shape of x.
            batch: Has the conditions, and says which were dropped.
        """
        if not batch.cond:
            raise InputError(
                "guidance inside the target needs a condition, and these data have none: leave guidance out"
            )
        rest = 1.0 - self.omega - self.kappa
        guided = self.omega * v
        if rest:
            guided = guided + rest * model(x, r, r)
        if self.kappa:
            guided = guided + self.kappa * model(x, r, r, **batch.cond)
        plain = (r < self.start) | (r > self.end)
        if batch.dropped is not None:
            plain = plain | batch.dropped
        return torch.where(plain.reshape(-1, *(1,) * (x.ndim - 1)), v, guided)
