r"""Stochastic interpolants: x_t = I(t, x0, x1) + gamma(t) z between any two laws.

Fields of a two-sided path (each a conditional expectation given x_t = x):

    b = E[dI/dt + gamma' z]   the velocity            v = E[dI/dt]
    eta = E[z]                                        s = grad log rho = -eta / gamma
    b = v + gamma' eta = v - gamma gamma' s

Log-SNR and the score-from-v table of affine paths have no meaning here. A one-sided path (Gaussian x0 in the role of z)
is an ordinary affine path: :class:`Linear`, :class:`Cosine`, :class:`LinearVP`.

Source: arXiv 2303.08797 (Albergo, Boffi, Vanden-Eijnden). The published code trains eta with the opposite sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.interpolants.affine import Coefficients
from advect.interpolants.base import Interpolant, Point
from advect.interpolants.gammas import Brownian, Gamma, Zero
from advect.interpolants.spatial import Spatial, Straight
from advect.randomness import randn_like


class Decomposition(NamedTuple):
    """A stochastic path taken apart: x_t = mean + gamma z, dx_t/dt = d_mean + d_gamma z.

    Attributes:
        mean: I(t, x0, x1), shape of the state.
        d_mean: dI/dt, shape of the state.
        gamma: Size of the latent, shaped to broadcast against the state.
        d_gamma: Its derivative; infinite at the ends for a Brownian gamma.
        gamma_d_gamma: Their product, finite everywhere.
    """

    mean: Tensor
    d_mean: Tensor
    gamma: Tensor
    d_gamma: Tensor
    gamma_d_gamma: Tensor


@dataclass(frozen=True)
class StochasticInterpolant(Interpolant):
    r"""x_t = a x1 + g x0 + gamma z, z ~ N(0, I) independent of both ends.

    Args:
        spatial: The mean part.
        gamma: Size of the latent; with Zero() there is no score.
    """

    spatial: Spatial = Straight()
    gamma: Gamma = Brownian()

    def __post_init__(self) -> None:
        self.spatial.check(self.gamma)

    @property
    def gaussian_variable(self) -> str | None:
        return None if isinstance(self.gamma, Zero) else "z"

    def coefficients(self, t: Tensor | float) -> Coefficients:
        """a, g, a', g' of the mean at t; a number is taken in float64 on the CPU."""
        if not isinstance(t, Tensor):
            t = torch.tensor(t, dtype=torch.float64)
        return self.spatial.coefficients(t, self.gamma)

    def decompose(self, x0: Tensor, x1: Tensor, t: Tensor | float) -> Decomposition:
        """Mean, gamma and their derivatives at t; both signs of z then give an antithetic pair."""
        t = expand_time(t, x1)
        c = self.spatial.coefficients(t, self.gamma)
        return Decomposition(
            c.a * x1 + c.g * x0,
            c.da * x1 + c.dg * x0,
            self.gamma(t),
            self.gamma.derivative(t),
            self.gamma.product(t),
        )

    def sample(self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Point:
        parts = self.decompose(x0, x1, t)
        z = randn_like(x1, generator)
        return Point(parts.mean + parts.gamma * z, parts.d_mean + parts.d_gamma * z, z)

    def velocity_of(self, v: Tensor, score: Tensor, t: Tensor | float) -> Tensor:
        """b = v - gamma gamma' s, from the mean's velocity v and the score, both (B, *shape); finite at the ends."""
        return v - self.gamma.product(expand_time(t, score)) * score

    def mean_velocity_of(self, b: Tensor, score: Tensor, t: Tensor | float) -> Tensor:
        """v = b + gamma gamma' s."""
        return b + self.gamma.product(expand_time(t, score)) * score

    def score_of(self, eta: Tensor, t: Tensor | float) -> Tensor:
        """s = -eta / gamma; infinite at the ends, where gamma is 0."""
        return -eta / self.gamma(expand_time(t, eta))

    def eta_of(self, score: Tensor, t: Tensor | float) -> Tensor:
        """eta = -gamma s = E[z | x_t]."""
        return -self.gamma(expand_time(t, score)) * score
