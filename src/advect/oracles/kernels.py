r"""Exact transition kernels: the law of x1 - x0 given a state of the straight path, as a head in closed form.

Both have the two methods of a kernel, ``features(x, t)`` and ``head(y, s, t, h)``, and draw the whole state as one.

Source: arXiv 2506.23589, sections 2.1 and 3.1, for the setting; the closed forms follow from conditioning Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from advect.broadcasting import as_time, expand_time
from advect.errors import InputError
from advect.parts import ModulePart


class GaussianKernel(ModulePart):
    r"""The kernel of Gaussian data N(m, S) on the straight path from N(0, I), for states of shape (d,).

    With V = (1-t)^2 I + t^2 S and K = (t S - (1-t) I) V^-1, y = x1 - x0 given x_t = x is N(mu, C),

        mu = m + K (x - t m),    C = S + I - K (t S - (1-t) I),

    and the head u(y, s) = mu + (s C - (1-s) I) ((1-s)^2 I + s^2 C)^-1 (y - s mu) carries N(0, I) to it.

    Args:
        mean: m, (d,).
        covariance: S, (d, d).
        factorised: Draw every coordinate by itself: C keeps its diagonal alone. The moments of each coordinate stay
            exact, what hangs together between them is lost.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, mean: Sequence[float], covariance: Sequence[Sequence[float]], factorised: bool = False) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64))
        self.register_buffer("covariance", torch.tensor(covariance, dtype=torch.float64))
        d = self.mean.shape[0]
        if self.covariance.shape != (d, d):
            raise InputError(f"covariance has shape {tuple(self.covariance.shape)} for a mean of {d} numbers")
        self.factorised = factorised

    def moments(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """K and C at time t, each (d, d) for one time, or (B, d, d)."""
        t = torch.as_tensor(t, dtype=torch.float64, device=self.mean.device)[..., None, None]
        one = torch.eye(self.mean.shape[0], dtype=torch.float64, device=self.mean.device)
        cross = t * self.covariance - (1 - t) * one
        gain = torch.linalg.solve((1 - t) ** 2 * one + t**2 * self.covariance, cross)  # all of it commutes
        spread = self.covariance + one - gain @ cross
        return gain, spread * one if self.factorised else spread

    def features(self, x: Tensor, t: Tensor) -> Tensor:
        """mu, shape of x."""
        gain, _ = self.moments(t)
        away = x.double() - expand_time(t, x).double() * self.mean
        return (self.mean + (gain @ away[..., None]).squeeze(-1)).to(x.dtype)

    def head(self, y: Tensor, s: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """u at inner time s, shape of y."""
        _, spread = self.moments(t)
        one = torch.eye(self.mean.shape[0], dtype=torch.float64, device=self.mean.device)
        s = as_time(s, y).double()
        c = s[..., None, None]
        rate = torch.linalg.solve((1 - c) ** 2 * one + c**2 * spread, c * spread - (1 - c) * one)
        mu = h.double()
        away = y.double() - expand_time(s, y) * mu
        return (mu + (rate @ away[..., None]).squeeze(-1)).to(y.dtype)


class ExactKernel:
    r"""The joint kernel of any field on the straight path from N(0, I), without training: its head is the field.

    A state x at time t and an inner state y at inner time s are two Gaussian observations of x1; together they are one,
    x_tau = ([A (1-s) + B s] x + B (1-t) y) / Q at time tau = D / Q, where

        D = sqrt(t^2 (1-s)^2 + s^2),    A = t (1-s) / D,    B = s / D,    Q = D + (1-s) (1-t),

    and A = 1, B = 0 at D = 0. The inner velocity is

        u = [ v(x_tau, tau) + (A - 1) x + (B - t A - (1-t)) y ] / Q.

    At t=0 it is v(s x + y, s) - x; at s=0 it is v(x, t) - y: one inner Euler step is the field's.

    Args:
        velocity: A field ``v(x, t, **cond)`` of the straight path from N(0, I), exact or trained.
        shape: Shape of a state, where the kernel becomes the network of a Flow.
    """

    def __init__(self, velocity: Callable[..., Tensor], shape: tuple[int, ...] | None = None) -> None:
        self.velocity_field, self.shape = velocity, shape

    def features(self, x: Tensor, t: Tensor, **cond: Any) -> tuple[Tensor, dict[str, Any]]:
        """The state itself and its conditions: nothing is computed before the head."""
        return x, cond

    def head(self, y: Tensor, s: Tensor, t: Tensor, h: tuple[Tensor, dict[str, Any]]) -> Tensor:
        """u at inner time s, shape of y; one call of the field."""
        x, cond = h
        s, t = as_time(s, y), as_time(t, y)
        root = (t**2 * (1 - s) ** 2 + s**2).sqrt()
        start = root == 0
        safe = torch.where(start, torch.ones_like(root), root)
        a = torch.where(start, torch.ones_like(root), t * (1 - s) / safe)
        b = torch.where(start, torch.zeros_like(root), s / safe)
        q = root + (1 - s) * (1 - t)

        def over(value: Tensor) -> Tensor:
            return expand_time(value, y)

        state = (over(a * (1 - s) + b * s) * x + over(b * (1 - t)) * y) / over(q)
        v = self.velocity_field(state, root / q, **cond)
        return (v + over(a - 1) * x + over(b - t * a - (1 - t)) * y) / over(q)
