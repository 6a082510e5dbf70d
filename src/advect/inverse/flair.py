r"""FLAIR: variational restoration with a flow as prior.

The family is a point: only the picture's state mu is optimised, one prior step per time from noise to data, each
followed by data steps. At time t, with n the source end predicted before (at first a draw of the source),

    eps = alpha n + sqrt(1 - alpha^2) z          x_t = a mu + g eps          v = field(x_t, t), no gradient
    n <- x0hat                                   mu <- mu - w (u - v),       u = a' mu + g' eps
    mu <- data steps (:class:`~advect.inverse.Consistency`)

u - v = (Delta / g)(mu - x1hat), (mu - x1hat)/(1 - t) on the straight path: the prior step is a move of the share
beta = w Delta / g towards the predicted data. That form is the one computed: the difference of two velocities loses
digits where 1 - t is small, and all of them in half precision.

Source: Erbach et al., arXiv 2506.02680 (NeurIPS 2025). There tau = 1 - t, v_off = -v, and "x_1" is the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import InverseMethod, Problem
from advect.inverse.consistency import Consistency
from advect.inverse.renoise import Renoise, TrajectoryAdjustment
from advect.inverse.weights import ConstantWeight, PriorWeights, factors
from advect.times import TimeGrid


@dataclass(frozen=True)
class Flair(InverseMethod):
    r"""Variational restoration: prior steps under calibrated weights, adjusted noise, hard data consistency.

    Args:
        steps: Times, and so network calls, at least 1.
        end: Times lie strictly between 0 and this one, which lies in (0, 1); the released tau_min is 1 - end = 0.18.
        weights: How much the prior is trusted; constant unless calibrated ones are given.
        renoise: Which noise is put back.
        consistency: The data steps.
        residual: What is weighted: the "velocity" u - v, the "noise" x0hat - eps (t times as much on the straight path:
            the residual of RED-diff), or the noise over signal to noise, "snr" (1 - t times as much).
        start: From the back-projection of the measurement, or "random".

    Raises:
        InputError: If steps, end or the weights cannot work.
    """

    steps: int = 50
    end: float = 0.82
    weights: PriorWeights = ConstantWeight()
    renoise: Renoise = TrajectoryAdjustment()
    consistency: Consistency = Consistency()
    residual: Literal["velocity", "noise", "snr"] = "velocity"
    start: Literal["back-projection", "random"] = "back-projection"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps is {self.steps}: give at least 1")
        if not 0 < self.end < 1:
            raise InputError(f"end is {self.end}: the last time lies between 0 and 1")
        if self.residual not in ("velocity", "noise", "snr") or self.start not in ("back-projection", "random"):
            raise InputError(
                f"residual is {self.residual!r} and start {self.start!r}: choose velocity, noise or snr, and "
                "back-projection or random"
            )

    def times(self) -> list[float]:
        """The inner nodes of a uniform grid from 0 to `end`: tau = linspace(1, tau_min, steps + 2)[1:-1]."""
        return TimeGrid(self.steps + 1, 0.0, self.end).times()[1:-1]

    def shares(self, problem: Problem) -> tuple[list[float], list[float]]:
        """Weights w and shares beta of all prior steps; a share of 2 or more is refused."""
        times, path = self.times(), problem.interpolant
        weights = self.weights.at(times, path)
        coefficients = [path.coefficients(t) for t in times]
        if self.residual == "velocity":
            scales = [1.0] * len(times)
        elif self.residual == "noise":
            scales = [float(c.a / c.delta) for c in coefficients]
        else:
            scales = [float(c.g / c.delta) for c in coefficients]
        shares = [w * f * s for w, f, s in zip(weights, factors(times, path), scales, strict=True)]
        if not max(shares) < 2:
            where = times[shares.index(max(shares))]
            raise InputError(
                f"the prior weights give a step of beta = {max(shares):.3g} at t = {where:.3g}, and from 2 on the "
                "iteration diverges: set max_beta (0.85 by default) instead of the released weights"
            )
        return weights, shares

    def solve(self, problem: Problem) -> Tensor:
        weights, shares = self.shares(problem)
        state = problem.noise() if self.start == "random" else problem.start()
        carried = problem.noise()
        step = 1 / problem.operator.norm_squared(problem.shape)
        total = torch.zeros(len(state), dtype=torch.long, device=state.device)
        passes = 0
        for t, weight, beta in zip(self.times(), weights, shares, strict=True):
            noise = self.renoise(carried, problem.noise(), t)
            carried, data = problem.ends(problem.between(noise, state, t), t)
            state = torch.lerp(state, data, beta)
            state, taken, more = self.consistency(problem, state, weight, step)
            total, passes = total + taken, passes + more
        problem.run.note("beta", shares)
        problem.run.note("data steps", total)
        problem.run.note("decoder passes", passes)
        return state
