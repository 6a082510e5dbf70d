"""The directions of a source, at radii of a law of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import gamma
from advect.sources.base import Source
from advect.sources.gaussian import Gaussian
from advect.sources.norm_aligned import chi_mean


class ChiSphere(ModulePart, Source):
    r"""x0 = scale r u with u the direction of a draw of `source`, and r ~ chi_d or r = E chi_d.

    Sources of directions (:class:`VonMisesFisher`, :class:`ClusterVonMisesFisher`) have norm 1 and become as long as a
    Gaussian so. A chi-distributed radius leaves the law of a centred Gaussian as it is, a fixed one makes it a sphere.
    The radius is drawn apart from the direction, so the filter of a :class:`PrunedSource` may stand inside.

    Args:
        source: Who gives the direction; a Gaussian by default.
        radius: "chi" for the law of the norm of N(0, I_d), "mean" for its mean.
        scale: Factor of the radius, above 0.
        dimension: d of the radius, None for the number of coordinates: in the plane, the radii of another space.

    Source: Lee, Kim, Lee, TMLR 2025 (`ChiSphere`, `X0_Norm`), whose code holds the mean of chi_3072 as a number.
    """

    def __init__(
        self,
        source: Source | None = None,
        radius: Literal["chi", "mean"] = "chi",
        scale: float = 1.0,
        dimension: int | None = None,
    ) -> None:
        super().__init__()
        if radius not in ("chi", "mean"):
            raise InputError(f"radius is {radius!r}: choose 'chi' or 'mean'")
        if not scale > 0:
            raise InputError(f"scale is {scale}: the factor of the radius is above 0")
        if dimension is not None and dimension < 1:
            raise InputError(f"dimension is {dimension}: the radius belongs to a space of 1 dimension or more")
        self.source: Source = Gaussian() if source is None else source
        self.radius, self.scale, self.dimension = radius, float(scale), dimension

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
        x0 = self.source.sample(shape, cond, generator, rows=rows, x1=x1, dtype=dtype, device=device)
        norm = _norms(x0)
        if self.radius == "mean":
            return x0 * (self.scale * chi_mean(self.dimension or x0[0].numel()) / norm)
        where = x0.device if generator is None else None
        chi = (2 * gamma((self.dimension or x0[0].numel()) / 2, (shape[0],), generator, device=where)).sqrt()
        return x0 * (self.scale * chi.to(x0).reshape(norm.shape) / norm)

    @property
    def gaussian(self) -> tuple[float, float] | None:
        inner = self.source.gaussian
        if self.radius != "chi" or self.dimension is not None or inner is None or inner[0] != 0.0:
            return None
        return 0.0, self.scale

    @property
    def fitted(self) -> bool:
        return self.source.fitted

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> ChiSphere:
        self.source.fit(x1, cond, generator)
        return self

    @property
    def needs_x1(self) -> bool:
        return self.source.needs_x1

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        return None if self.gaussian is None else Gaussian(self.scale).score(x0)

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        return None if self.gaussian is None else Gaussian(self.scale).log_prob(x0)


def _norms(x: Tensor) -> Tensor:
    """|x| per sample, shaped (B, 1, ..., 1)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1).reshape(-1, *(1,) * (x.ndim - 1))
