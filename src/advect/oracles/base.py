r"""Closed forms to measure everything against: laws of data whose fields along a path are known exactly.

``oracle.on(interpolant, source)`` carries the law along a path; its methods are plain callables ``f(x, t, label=None)``
that any solver takes. All is computed in float64 and returned in x's type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from advect.broadcasting import as_time, per_sample_time
from advect.interpolants import Interpolant, Linear
from advect.parts import ModulePart, Part
from advect.randomness import rand
from advect.sources import Gaussian as GaussianSource

Field = Callable[..., Tensor]


class Carried(ABC):
    """A law of data carried along a path. `x` is (B, *shape), `t` is () or (B,), `label` (B,) restricts the data.

    A label beyond the last one (the null class) means all of the data.
    """

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """E[dx_t/dt | x_t = x], shape of x."""

    @abstractmethod
    def score(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """grad log p_t(x), shape of x."""

    @abstractmethod
    def denoiser(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """E[x1 | x_t = x], shape of x."""

    @abstractmethod
    def source_mean(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """E[x0 | x_t = x], shape of x."""

    @abstractmethod
    def log_prob(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """log p_t(x), shape (B,)."""

    @abstractmethod
    def responsibilities(self, x: Tensor, t: Tensor | float, *, label: Tensor | None = None) -> Tensor:
        """P(component or data point | x_t = x), shape (B, components)."""

    @abstractmethod
    def posterior(
        self, x: Tensor, t: Tensor | float, generator: torch.Generator | None = None, *, label: Tensor | None = None
    ) -> Tensor:
        """One draw of x1 from p(x1 | x_t = x) for each x, shape of x."""


class Oracle(ModulePart, ABC):
    """A law of data at t=1 with closed forms along paths."""

    shape: tuple[int, ...]

    @abstractmethod
    def on(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> Carried:
        """Carry the law along a path from a source."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n draws of the data (n, *shape) in float64, and their labels (n,)."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws of the data, (n, *shape), float64."""
        return self.draw(n, generator)[0]

    def velocity(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> Field:
        """The exact velocity, ``f(x, t, label=None)``."""
        return self.on(interpolant, source).velocity

    def score(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> Field:
        """The exact score, ``f(x, t, label=None)``."""
        return self.on(interpolant, source).score

    def denoiser(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> Field:
        """The exact E[x1 | x_t], ``f(x, t, label=None)``."""
        return self.on(interpolant, source).denoiser

    def log_prob(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> Field:
        """The exact log p_t, ``f(x, t, label=None)``; at t=1 that of the data."""
        return self.on(interpolant, source).log_prob

    def posterior(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> Field:
        """Draws of p(x1 | x_t), ``f(x, t, generator, label=None)``."""
        return self.on(interpolant, source).posterior


def column_time(t: Tensor | float, x: Tensor) -> Tensor:
    """t in float64 as () or (B, 1, 1), against (B, components, dimensions)."""
    t = as_time(t, x.new_empty((), dtype=torch.float64))
    return t if t.ndim == 0 else per_sample_time(t, x.flatten(1).double()).reshape(-1, 1, 1)


def restrict(logits: Tensor, labels: Tensor, classes: int, label: Tensor | None) -> Tensor:
    """Leave out, per row, the components of another label than the one asked for."""
    if label is None:
        return logits
    keep = (labels == label[:, None]) | (label[:, None] >= classes)
    return torch.where(keep, logits, -torch.inf)


def choose(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """One index per row of (B, n) probabilities, shape (B,)."""
    u = rand((probabilities.shape[0], 1), generator, dtype=probabilities.dtype, device=probabilities.device)
    edges = probabilities.cumsum(1)
    # the last edge is left out, so that no rounding leads past the last index
    return torch.searchsorted(edges[:, :-1].contiguous(), u * edges[:, -1:], right=True).squeeze(1)
