"""Mixtures: of Gaussians at given places, and of any sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import randn
from advect.sources.base import Source
from advect.sources.densities import choose, mixture_log_prob, mixture_score, normalised


class GaussianMixture(ModulePart, Source):
    r"""x0 ~ sum_k w_k N(m_k, s_k^2 I) for flat states.

    Args:
        means: m_k, one tuple of d numbers per component; states then have shape (B, d).
        std: s_k, one for all or one per component, above 0.
        weights: w_k, above 0, of any sum; None for equal ones.
    """

    means: Tensor
    stds: Tensor
    weights: Tensor

    def __init__(
        self,
        means: tuple[tuple[float, ...], ...],
        std: float | tuple[float, ...] = 1.0,
        weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        count = len(means)
        if count == 0 or len({len(mean) for mean in means}) != 1:
            raise InputError(f"means is {means}: give one or more means of equal length")
        stds = (std,) * count if isinstance(std, (int, float)) else tuple(std)
        if len(stds) != count or not all(s > 0 for s in stds):
            raise InputError(f"std is {std} for {count} means: give one above 0 for all, or one for each")
        self.register_buffer("means", torch.tensor(means, dtype=torch.float64))
        self.register_buffer("stds", torch.tensor(stds, dtype=torch.float64))
        self.register_buffer("weights", torch.tensor(normalised(weights, count), dtype=torch.float64))

    def sample(
        self,
        shape: Sequence[int],
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        *,
        rows: Tensor | None = None,
        x1: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        if tuple(shape[1:]) != (self.means.shape[1],):
            raise InputError(f"shape is {tuple(shape)}, but the means make states of shape (B, {self.means.shape[1]})")
        x0 = randn(shape, generator, dtype=dtype, device=self.means.device if device is None else device)
        index = choose(self.weights, shape[0], generator, rows)
        return self.means[index].to(x0) + self.stds[index].to(x0)[:, None] * x0

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        return mixture_log_prob(x0, self.means.to(x0), self.stds.to(x0), self.weights.log().to(x0))

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        return mixture_score(x0, self.means.to(x0), self.stds.to(x0), self.weights.log().to(x0))


class Mixture(ModulePart, Source):
    r"""x0 from one of several sources, drawn anew for every sample: p0 = sum_k w_k p_k.

    Args:
        components: The sources, of one shape.
        weights: w_k, above 0, of any sum; None for equal ones.
    """

    weights: Tensor

    def __init__(self, components: tuple[Source, ...], weights: tuple[float, ...] | None = None) -> None:
        super().__init__()
        if not components:
            raise InputError("components is empty: a mixture needs at least one source")
        self.components = tuple(components)
        self._modules_of_components = nn.ModuleList([c for c in components if isinstance(c, nn.Module)])
        self.register_buffer("weights", torch.tensor(normalised(weights, len(components)), dtype=torch.float64))

    def sample(
        self,
        shape: Sequence[int],
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        *,
        rows: Tensor | None = None,
        x1: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        index = choose(self.weights, shape[0], generator, rows).reshape(-1, *[1] * (len(shape) - 1))
        x0: Tensor | None = None
        for k, component in enumerate(self.components):
            drawn = component.sample(shape, cond, generator, rows=rows, x1=x1, dtype=dtype, device=device)
            x0 = drawn if x0 is None else torch.where(index.to(drawn.device) == k, drawn, x0)
        assert x0 is not None
        return x0

    @property
    def needs_x1(self) -> bool:
        return any(component.needs_x1 for component in self.components)

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        joint = self._log_joint(x0, cond)
        return None if joint is None else torch.logsumexp(joint, 0)

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        joint = self._log_joint(x0, cond)
        parts = [component.score(x0, cond) for component in self.components]
        scores = [score for score in parts if score is not None]
        if joint is None or len(scores) < len(parts):
            return None
        share = torch.softmax(joint, 0).reshape(*joint.shape, *[1] * (x0.ndim - 1))
        return (share * torch.stack(scores)).sum(0)

    def _log_joint(self, x0: Tensor, cond: Mapping[str, Tensor] | None) -> Tensor | None:
        """log w_k p_k(x0), shape (K, B), or None if a component has no known density."""
        parts = [component.log_prob(x0, cond) for component in self.components]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return torch.stack(known) + self.weights.log().to(x0)[:, None]
