"""A source whose direction is near that of the data's cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import randint
from advect.sources.base import Source
from advect.sources.densities import choose
from advect.sources.von_mises_fisher import check_kappa, directions, sample_around


def spherical_kmeans(
    u: Tensor, clusters: int, generator: torch.Generator | None = None, *, restarts: int = 4, most: int = 100
) -> tuple[Tensor, Tensor]:
    """Mean directions (K, d) that maximise the sum of cosines, and the cluster (N,) of each direction.

    Args:
        u: Unit vectors (N, d).
        clusters: K, at most N.
        generator: Chooses the first means.
        restarts: Starts, of which the best is kept.
        most: Rounds per start.
    """
    best: tuple[float, Tensor, Tensor] | None = None
    for _ in range(restarts):
        means = u[randint(len(u), (1,), generator, device=u.device)]
        while len(means) < clusters:  # the next one is drawn far from those there are
            far = (1 - (u @ means.T).amax(1)).clamp_min(1e-12)
            means = torch.cat([means, u[choose(far / far.sum(), 1, generator)]])
        label = (u @ means.T).argmax(1)
        for _ in range(most):
            sums = torch.zeros_like(means).index_add_(0, label, u)
            length = torch.linalg.vector_norm(sums, dim=1, keepdim=True)
            means = torch.where(length > 0, sums / torch.where(length > 0, length, 1.0), means)
            before, label = label, (u @ means.T).argmax(1)
            if torch.equal(before, label):
                break
        gain = float((u @ means.T).amax(1).sum())
        if best is None or gain > best[0]:
            best = gain, means, label
    assert best is not None
    return best[1], best[2]


class ClusterVonMisesFisher(ModulePart, Source):
    r"""Directions around K mean directions of the data, at which training takes the cluster of each x1.

    When training, the draw is around the mean of x1's cluster; when sampling, around a cluster drawn by its share of
    the data. Means and shares are found once at the start of training (spherical k-means) and saved. x0 then depends on
    x1, so there is no score. Put it into a :class:`ChiSphere` to make it as long as a Gaussian.

    Args:
        clusters: K, at least 1.
        kappa: Concentration around each mean; the mean cosine is :func:`mean_cosine`.

    Source: Lee, Kim, Lee, TMLR 2025 (K = 3; kappa 50, 300, 1500), whose evaluation tests another flag
    than its training.
    """

    means: Tensor
    shares: Tensor

    def __init__(self, clusters: int = 3, kappa: float = 300.0) -> None:
        super().__init__()
        check_kappa(kappa)
        if clusters < 1:
            raise InputError(f"clusters is {clusters}: at least 1")
        self.clusters, self.kappa = clusters, float(kappa)
        self.register_buffer("means", torch.zeros(0, 0))
        self.register_buffer("shares", torch.full((clusters,), 1 / clusters, dtype=torch.float64))

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> ClusterVonMisesFisher:
        """Find means and shares on data (N, *shape), in place."""
        u = directions(x1)
        if len(u) < self.clusters or not bool(torch.isfinite(u).all()):
            raise InputError(
                f"x1 has shape {tuple(x1.shape)} for {self.clusters} clusters: give at least as many samples, "
                "finite and none of them 0"
            )
        self.means, label = spherical_kmeans(u, self.clusters, generator)
        counts = torch.bincount(label, minlength=self.clusters).double()
        self.shares = (counts / counts.sum()).to(self.shares.device)
        return self

    @property
    def fitted(self) -> bool:
        return len(self.means) > 0

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
        if not self.fitted:
            raise InputError("ClusterVonMisesFisher has no clusters yet: training finds them, or call fit(x1)")
        if x1 is None:
            label = choose(self.shares, shape[0], generator, rows).to(self.means.device)
        else:
            label = self.cluster_of(x1)
        like = torch.empty(0, dtype=dtype, device=self.means.device if device is None else device)
        return sample_around(self.means[label].to(like), self.kappa, generator).reshape(tuple(shape))

    def cluster_of(self, x1: Tensor) -> Tensor:
        """Number of the cluster of each sample (B, *shape), shape (B,)."""
        return (x1.flatten(1) @ self.means.to(x1).T).argmax(1).to(self.means.device)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """The means take the file's shape."""
        if (value := state_dict.get(prefix + "means")) is not None:
            self.means = torch.empty_like(value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
