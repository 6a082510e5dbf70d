r"""The Student-t source of PFGM++: one radius per sample."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.randomness import gamma, randn
from advect.sources.base import Source
from advect.sources.kernels import log_density

AUTO = 128.0
"""The degrees of freedom that ``df="auto"`` stands for: published with the best or nearly the best figures on
3x32x32 and on 3x64x64 pictures."""


@dataclass(frozen=True)
class StudentT(Source):
    r"""x0 = z sqrt(D / chi2_D), z ~ N(0, I), with one chi2_D per sample: a multivariate Student-t of scale 1.

    The training noise of PFGM++ on any affine path: with D extra dimensions and r = sigma sqrt(D), the kernel
    1 / (|x - y|^2 + r^2)^{(N+D)/2} is y + sigma x0. |x0|^2 / N is Fisher's F(N, D). All settings of a Gaussian recipe
    (noise levels, preconditioning, solver, steps) carry over. D need not be whole.

    The coordinates of a sample share their radius; of ragged data all rows of one sample do (`rows`). The velocity
    gives no score, so SDEs and ancestral samplers are refused.

    Args:
        df: D, degrees of freedom, above 0. Small D is heavy-tailed and bears errors of model and solver better; None
            (or infinity) is the Gaussian, bit by bit. "auto" is 128; scan N/96 to N for N numbers per sample.

    Raises:
        InputError: If df is not above 0, or so small that draws overflow their type.

    Warns:
        UserWarning: On drawing, what "auto" stands for, and where df <= 2 leaves no finite mean square.

    Source: PFGM++, arXiv 2302.04265, sections 3 and 4. The published code draws the radius from a Beta clipped to
    [1e-3, 1 - 1e-3]: another law where D is small (92% of draws at N=3072, D=1) or N is (64% at N=2, D=2048). Here it
    is a chi-squared in float64, never clipped.
    """

    df: float | Literal["auto"] | None = "auto"

    def __post_init__(self) -> None:
        df = AUTO if self.df == "auto" else self.df
        if self.df == "auto":
            warnings.warn(
                f"df is 'auto', so StudentT takes {AUTO:g} degrees of freedom: give df to choose them", stacklevel=2
            )
        if df is not None:
            if isinstance(df, (str, bool)) or not df > 0:
                raise InputError(
                    f"df is {self.df!r}: the degrees of freedom of StudentT are a number above 0, 'auto' (128), or "
                    "None for the Gaussian"
                )
            df = None if math.isinf(df) else float(df)
        object.__setattr__(self, "df", df)  # what "auto" stands for is kept with the Flow

    @property
    def degrees(self) -> float | None:
        """D, or None for the Gaussian."""
        return self.df  # pyright: ignore[reportReturnType]

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
        z = randn(shape, generator, dtype=dtype, device=device)
        D = self.degrees
        if D is None:
            return z
        self._say(D, z.dtype)
        samples = shape[0] if rows is None else int(rows.max()) + 1
        # in float64, since a gamma of small shape underflows in float32; drawn where the generator is
        where = z.device if generator is None and z.device.type != "mps" else None  # which has no float64
        chi2 = 2 * gamma(D / 2, (samples,), generator, dtype=torch.float64, device=where)
        radius = (D / chi2).sqrt().to(z.dtype).to(z.device)
        return z * (radius if rows is None else radius[rows]).reshape(-1, *(1,) * (z.ndim - 1))

    def _say(self, D: float, dtype: torch.dtype) -> None:
        """Refuse a type that cannot hold the draws; warn of what the user should know (each text is shown once)."""
        share = overflow_share(D, dtype)
        if share > 1e-9:
            raise InputError(
                f"df is {D:g}: about {min(share, 1.0):.1g} of the draws leave the range of {str(dtype)[6:]} on a path "
                "of noise level 80: take a larger df, or draw in float32 or float64"
            )
        if D <= 2:
            what = "mean radius" if D <= 1 else "mean square"
            warnings.warn(
                f"df is {D:g}: with 2 degrees of freedom or fewer the {what} of the source is infinite, so single huge "
                "draws rule a training: take 4 or more unless this is meant",
                stacklevel=2,
            )

    @property
    def gaussian(self) -> tuple[float, float] | None:
        return (0.0, 1.0) if self.degrees is None else None

    @property
    def location_scale(self) -> tuple[float, float]:
        return 0.0, 1.0

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        """-(N + D) x0 / (D + |x0|^2): the source's own, not that of the states between source and data."""
        if self.degrees is None:
            return -x0
        square = x0.flatten(1).square().sum(1).reshape(-1, *(1,) * (x0.ndim - 1))
        return -(x0[0].numel() + self.degrees) * x0 / (self.degrees + square)

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        u = x0.flatten(1)
        return log_density(u.square().sum(1), 1.0, u.shape[1], self.degrees)


def overflow_share(df: float, dtype: torch.dtype, noise: float = 80.0, spread: float = 4.0) -> float:
    r"""An upper bound of the share of samples with a coordinate beyond the type's range, at noise level `noise`.

    P(chi2_D < q) <= (q/2)^{D/2} / Gamma(D/2 + 1) with q = D (noise spread / max)^2, for coordinates of z up to
    `spread`; in logarithms, since q underflows.
    """
    log_half_q = math.log(0.5 * df) + 2 * (math.log(noise * spread) - math.log(torch.finfo(dtype).max))
    return math.exp(min(0.5 * df * log_half_q - math.lgamma(0.5 * df + 1), 0.0))
