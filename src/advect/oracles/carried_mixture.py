r"""A Gaussian mixture carried along a path from a Gaussian (or mixture) source.

Given the components (j, k) of source and data, x_t = a x1 + g x0 + gamma z is Gaussian with

    M = a m1 + g m0,     V = a^2 C + g^2 S + gamma^2 I,

and every y = p x1 + q x0 + r z has E[y | x_t] = E[y] + (p a C + q g S + r gamma I) V^-1 (x - M). The velocity has
p = a', q = g', r = gamma', so only the products a a', g g', gamma gamma' meet a covariance, and they are finite at both
ends. In the common basis of C and S all of it is diagonal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants import AffineInterpolant, Interpolant, StochasticInterpolant, Zero
from advect.oracles.base import Carried, choose, column_time, restrict
from advect.oracles.components import Components, diagonalise
from advect.randomness import randn


class Mixing(NamedTuple):
    """Shares of data, source and latent (None if the path has none) at one time."""

    a: Tensor
    g: Tensor
    gamma: Tensor | None


class Given(NamedTuple):
    """What conditioning on x_t = x leaves to compute with.

    Attributes:
        t: The time, () or (B, 1, 1).
        mix: The shares at t.
        u: W' V^-1 (x - M), (B, P, D).
        v: Diagonal of V in the basis, (P, D) or (B, P, D).
        logits: Log joint density of component and x, (B, P).
    """

    t: Tensor
    mix: Mixing
    u: Tensor
    v: Tensor
    logits: Tensor


class CarriedMixture(Carried):
    """Fields of a mixture along a path; made by ``oracle.on(interpolant, source)``."""

    def __init__(
        self,
        shape: tuple[int, ...],
        path: Interpolant,
        data: Components,
        source: Components,
        label_noise: float = 0.0,
    ) -> None:
        if not isinstance(path, (AffineInterpolant, StochasticInterpolant)):
            raise InputError(f"the path is {type(path).__name__}: closed forms need an affine or stochastic one")
        self.shape, self.path = shape, path
        self.diagonal = diagonalise(data, source)
        if self.diagonal.i is None and isinstance(path, StochasticInterpolant) and not isinstance(path.gamma, Zero):
            raise InputError(
                "the covariances of source and data do not commute, so a path with a latent has no closed form in one "
                "basis: make the source isotropic or gamma Zero()"
            )
        K, J = len(data.means), len(source.means)
        self.m1, self.m0 = data.means.repeat(J, 1), source.means.repeat_interleave(K, 0)
        self.centred = not bool(source.means.any())  # then g' meets no mean, and may be infinite
        self.log_weights = data.log_weights.repeat(J) + source.log_weights.repeat_interleave(K)
        self.constant = self.log_weights - self.diagonal.log_det - 0.5 * self.m1.shape[1] * math.log(2 * math.pi)
        self.labels, self.classes = data.labels.repeat(J), int(data.labels.max()) + 1
        self.label_noise, weights = label_noise, data.log_weights.exp()
        self.shares = weights.new_zeros(self.classes).index_add(0, data.labels, weights)

    def mixing(self, t: Tensor) -> Mixing:
        """Shares at t, of t's shape."""
        if isinstance(self.path, StochasticInterpolant):
            c = self.path.coefficients(t)
            return Mixing(c.a, c.g, self.path.gamma(t))
        return Mixing(self.path.alpha(t), self.path.sigma(t), None)

    def mean_at(self, mix: Mixing) -> Tensor:
        """M per component, (P, D) or (B, P, D)."""
        return mix.a * self.m1 if self.centred else mix.a * self.m1 + mix.g * self.m0

    def variance_at(self, mix: Mixing) -> Tensor:
        """V per component in the basis, (P, D) or (B, P, D)."""
        d = self.diagonal
        out = mix.a**2 * d.c + mix.g**2 * d.s
        return out if mix.gamma is None or d.i is None else out + mix.gamma**2 * d.i

    def given(self, x: Tensor, t: Tensor | float, label: Tensor | None) -> Given:
        """Condition on x_t = x."""
        d, time = self.diagonal, column_time(t, x)
        mix = self.mixing(time)
        z = x.flatten(1).double()[:, None] - self.mean_at(mix)
        if d.inverse is not None:
            z = torch.einsum("pij,bpj->bpi", d.inverse, z)
        v = self.variance_at(mix)
        u = z / v
        squares = (z * u + v.log()).sum(-1)
        return Given(time, mix, u, v, self._told(self.constant - 0.5 * squares, label))

    def _told(self, logits: Tensor, label: Tensor | None) -> Tensor:
        """Log weights of the components given a label that was drawn anew for a share of the data."""
        if label is None or self.label_noise == 0.0:
            return restrict(logits, self.labels, self.classes, label)
        share = self.shares[label.clamp(max=self.classes - 1)]
        true = (self.labels == label[:, None]) * ((1 - self.label_noise) / share)[:, None]
        return torch.where((label >= self.classes)[:, None], logits, logits + (self.label_noise + true).log())

    def _expect(self, given: Given, offset: Tensor | None, gain: Tensor, x: Tensor) -> Tensor:
        """Sum over components of responsibility times (offset + W (gain u))."""
        inner = gain * given.u
        if self.diagonal.basis is not None:
            inner = torch.einsum("pij,bpj->bpi", self.diagonal.basis, inner)
        if offset is not None:
            inner = inner + offset
        if inner.shape[1] > 1:
            inner = given.logits.softmax(1)[..., None] * inner
        return inner.sum(1).reshape(x.shape).to(x.dtype)

    def velocity(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        return self._velocity(x, t, label, with_latent=True)

    def mean_velocity(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """v = E[dI/dt | x_t = x] of a stochastic path, shape of x: the velocity less the latent's part."""
        return self._velocity(x, t, label, with_latent=False)

    def _velocity(self, x: Tensor, t: Tensor | float, label: Tensor | None, *, with_latent: bool) -> Tensor:
        given, d, path = self.given(x, t, label), self.diagonal, self.path
        c = path.coefficients(given.t)
        g_dg = path.sigma_d_sigma(given.t) if isinstance(path, AffineInterpolant) else c.g * c.dg
        gain = c.a * c.da * d.c + g_dg * d.s
        if with_latent and isinstance(path, StochasticInterpolant) and d.i is not None:
            gain = gain + path.gamma.product(given.t) * d.i
        offset = c.da * self.m1
        return self._expect(given, offset if self.centred else offset + c.dg * self.m0, gain, x)

    def score(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        given = self.given(x, t, label)
        out = given.u
        if self.diagonal.inverse is not None:
            out = torch.einsum("pji,bpj->bpi", self.diagonal.inverse, out)
        return -(given.logits.softmax(1)[..., None] * out).sum(1).reshape(x.shape).to(x.dtype)

    def denoiser(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        given = self.given(x, t, label)
        return self._expect(given, self.m1, given.mix.a * self.diagonal.c, x)

    def source_mean(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        given = self.given(x, t, label)
        return self._expect(given, self.m0, given.mix.g * self.diagonal.s, x)

    def latent_mean(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """eta = E[z | x_t = x] of a stochastic path, shape of x."""
        given = self.given(x, t, label)
        if given.mix.gamma is None or self.diagonal.i is None:
            raise InputError(f"the path is {self.path}: only a stochastic path with a gamma has a latent")
        return self._expect(given, None, given.mix.gamma * self.diagonal.i, x)

    def log_prob(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        joint = self.given(x, t, label).logits.logsumexp(1)
        if label is not None:  # p(x | label) = p(x, label) / p(label)
            prior = self.log_weights.expand(x.shape[0], -1)
            joint = joint - self._told(prior, label).logsumexp(1)
        return joint.to(x.dtype)

    def responsibilities(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        return self.given(x, t, label).logits.softmax(1).to(x.dtype)

    def posterior(
        self, x: Tensor, t: Tensor | float, generator: torch.Generator | None = None, *, label: Tensor | None = None
    ) -> Tensor:
        given, d = self.given(x, t, label), self.diagonal
        mix, rows = given.mix, torch.arange(x.shape[0], device=x.device)
        k = choose(given.logits.softmax(1), generator)
        # C - a^2 C V^-1 C, written without the difference of near equals
        rest = mix.g**2 * d.s
        if mix.gamma is not None and d.i is not None:
            rest = rest + mix.gamma**2 * d.i
        spread = (d.c * rest / given.v).sqrt().expand(given.u.shape)[rows, k]
        inner = (mix.a * d.c * given.u)[rows, k] + spread * randn(
            spread.shape, generator, dtype=torch.float64, device=x.device
        )
        if d.basis is not None:
            inner = torch.einsum("bij,bj->bi", d.basis[k], inner)
        return (self.m1[k] + inner).reshape(x.shape).to(x.dtype)
