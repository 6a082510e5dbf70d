"""The clock T(t) of the VP and sub-VP diffusions: the integral of a linear noise rate, seen from the data."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.errors import InputError


def check_betas(beta_min: float, beta_max: float) -> None:
    """Refuse rates for which the clock does not run."""
    if not 0 < beta_min <= beta_max:
        raise InputError(f"beta_min={beta_min}, beta_max={beta_max}: a diffusion needs 0 < beta_min <= beta_max")


def clock(t: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """T = (1-t)^2 (b1-b0)/2 + (1-t) b0; 0 at the data."""
    u = 1 - t
    return u * (beta_min + 0.5 * (beta_max - beta_min) * u)


def clock_rate(t: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """-dT/dt, the noise rate at t."""
    return beta_min + (beta_max - beta_min) * (1 - t)


def time_of_clock(T: Tensor, beta_min: float, beta_max: float) -> Tensor:
    """The t at which the clock shows T; the root is written without a difference of near equals."""
    return 1 - 2 * T / (beta_min + torch.sqrt(beta_min**2 + 2 * (beta_max - beta_min) * T))
