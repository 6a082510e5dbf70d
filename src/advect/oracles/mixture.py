"""Gaussians and Gaussian mixtures as laws of data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from advect.errors import InputError
from advect.interpolants import Interpolant, Linear
from advect.oracles.base import Oracle, choose
from advect.oracles.carried_mixture import CarriedMixture
from advect.oracles.components import Components, Covariance, covariance_tensor
from advect.oracles.flow_map import GaussianFlowMap
from advect.parts import Part
from advect.randomness import randn
from advect.sources import Gaussian as GaussianSource
from advect.sources import GaussianMixture as MixtureSource
from advect.sources import Source


class _Gaussians(Oracle):
    """What one Gaussian and several have in common."""

    log_weights: Tensor
    means: Tensor
    covariances: Tensor
    labels: Tensor
    label_noise: float = 0.0

    def _set(
        self, weights: Sequence[float], means: Sequence, covariances: Sequence[Covariance], labels: Sequence[int] | None
    ) -> None:
        m = torch.as_tensor(means, dtype=torch.float64)
        self.shape = tuple(m.shape[1:])
        K, w = len(m), torch.as_tensor(weights, dtype=torch.float64)
        y = torch.arange(K) if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        if m.ndim < 2 or w.shape != (K,) or len(covariances) != K or y.shape != (K,):
            raise InputError(
                f"there are {len(w)} weights, means of shape {tuple(m.shape)}, {len(covariances)} covariances and "
                f"{len(y)} labels: give one of each per component, means of shape (components, *shape)"
            )
        if not (w > 0).all():
            raise InputError(f"weights are {w.tolist()}: those of a mixture are above 0")
        self.register_buffer("log_weights", (w / w.sum()).log())
        self.register_buffer("means", m.flatten(1))
        self.register_buffer("covariances", covariance_tensor(covariances, m[0].numel()))
        self.register_buffer("labels", y)

    @property
    def components(self) -> Components:
        """Weights, means and covariances as tensors."""
        return Components(self.log_weights, self.means, self.covariances, self.labels)

    def on(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> CarriedMixture:
        """Carry the law along an affine or stochastic path.

        Args:
            interpolant: The path.
            source: A Gaussian source or a mixture of such, or a Gaussian or mixture oracle as the law at t=0.

        Raises:
            InputError: If source or path have no closed form.
        """
        start = self._components_of(source)
        if start.means.shape[1] != self.means.shape[1]:
            raise InputError(
                f"source has states of {start.means.shape[1]} dimensions, the data of {self.means.shape[1]}: "
                "they have to agree"
            )
        return CarriedMixture(self.shape, interpolant, self.components, start, self.label_noise)

    def _components_of(self, source: Part) -> Components:
        if isinstance(source, _Gaussians):
            return source.components
        if isinstance(source, MixtureSource):
            index = torch.arange(len(source.means), device=source.means.device)
            return Components(source.weights.log(), source.means, source.stds**2, index)
        if not isinstance(source, Source) or source.gaussian is None:
            raise InputError(
                f"source is {type(source).__name__}: closed forms are there for Gaussian sources, mixtures of them, "
                "and the oracles Gaussian and GaussianMixture"
            )
        mean, std = source.gaussian
        one = self.means.new_ones(1)
        return Components(
            one.log(), torch.full_like(self.means[:1], mean), one * std**2, torch.zeros_like(self.labels[:1])
        )

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        k = choose(self.log_weights.exp().expand(n, -1), generator)
        z = randn((n, self.means.shape[1]), generator, dtype=torch.float64, device=self.means.device)
        if self.covariances.ndim == 1:
            noise = self.covariances.sqrt()[k, None] * z
        else:
            noise = torch.einsum("bij,bj->bi", torch.linalg.cholesky(self.covariances)[k], z)
        return (self.means[k] + noise).reshape(n, *self.shape), self.labels[k]


class GaussianMixture(_Gaussians):
    r"""p1 = sum_k w_k N(m_k, C_k).

    Args:
        weights: One per component, above 0; normalised here.
        means: One state per component, nested to the state's shape.
        covariances: One per component: a variance, or a matrix over the flattened state.
        labels: Class of each component, which `label=` asks for; its own index by default.
        label_noise: Share of the data, in [0, 1), whose label was drawn anew from the frequencies of the classes: what
            is asked for by `label=` is then what a model learns that was trained on such labels,
            p(x | c) = (1 - noise) p_c(x) + noise p(x). Draws keep the true labels.

    Raises:
        InputError: If the counts or shapes disagree, the noise is no share, or a covariance is not positive definite.
    """

    def __init__(
        self,
        weights: Sequence[float],
        means: Sequence,
        covariances: Sequence[Covariance],
        labels: Sequence[int] | None = None,
        label_noise: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_noise < 1:
            raise InputError(f"label_noise is {label_noise}: it is a share in [0, 1)")
        self.label_noise = label_noise
        self._set(weights, means, covariances, labels)


class Gaussian(_Gaussians):
    r"""p1 = N(m, C), with the flow map in closed form too.

    Args:
        mean: One state, nested to its shape.
        covariance: A variance, or a matrix over the flattened state.

    Raises:
        InputError: If the covariance does not fit or is not positive definite.
    """

    def __init__(self, mean: Sequence, covariance: Covariance = 1.0) -> None:
        super().__init__()
        self._set([1.0], torch.as_tensor(mean, dtype=torch.float64)[None], [covariance], None)  # pyright: ignore

    def flow_map(self, interpolant: Interpolant = Linear(), source: Part = GaussianSource()) -> GaussianFlowMap:
        """The exact flow map ``f(x, r, t) -> u``, with ``.velocity(x, t)`` and ``.jump(x, r, t)``."""
        return GaussianFlowMap(self.on(interpolant, source))


def reference_mixture() -> GaussianMixture:
    """The 2-D mixture of three isotropic Gaussians on which solvers are measured."""
    return GaussianMixture((0.5, 0.3, 0.2), ((1.5, 0.0), (-1.0, 1.2), (-0.5, -1.6)), (0.25, 0.36, 0.16))
