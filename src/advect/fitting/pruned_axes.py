r"""Directions that no data face: which sides of the principal axes are empty, and how strictly noise keeps off them.

u_j = x_j / |x_j|,   a_i the principal axes of u (mean removed) and their negatives,   m_i = max_j <a_i, u_j>
rejected = {a_i : m_i <= tau_data},   a draw x0 is kept if  max_{rejected} <a, x0>/|x0| <= tau_inf
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advect.batch import Batch
from advect.errors import InputError
from advect.fitting.base import Fit
from advect.flow import Flow
from advect.parts import Part
from advect.randomness import generator, randn
from advect.sources import Gaussian, PrunedSource, Source

BLOCK = 2048
WIDEST = 4096  # coordinates up to which all principal axes are found: minutes at 3072
LEAST = 1e-3  # acceptance below which a sample costs more than a thousand draws


def unit_vectors(x: Tensor) -> Tensor:
    """Samples (N, *shape) as directions (N, d), without those that are 0.

    Raises:
        InputError: If a value is not finite, or fewer than 2 samples have a direction.
    """
    flat = x.flatten(1).float()
    norm = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    if not bool(torch.isfinite(norm).all()):
        raise InputError("the data hold NaN or infinity: remove the broken samples")
    flat, norm = flat[norm[:, 0] > 0], norm[norm[:, 0] > 0]
    if len(flat) < 2:
        raise InputError(f"the data have shape {tuple(x.shape)}: give at least 2 samples that are not 0")
    return flat / norm


def principal_axes(u: Tensor, most: int | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Principal axes of directions u (N, d), of the largest variance first: (min(d, N-1), d), or (most, d).

    Fewer samples than coordinates leave the other axes undetermined, so these are not among them.
    Up to 4096 coordinates, `most` axes are half those of largest and half those of smallest variance; beyond, those of
    largest variance, found by subspace iteration.

    Args:
        u: Unit vectors, at least 2. Their mean is removed here, and only here.
        most: How many axes; None for all.
        generator: Where a subspace iteration starts.

    Raises:
        InputError: If there are more than 4096 coordinates and `most` is not given.
    """
    mean, d = u.mean(0), u.shape[1]
    if d <= WIDEST:
        covariance = torch.zeros(d, d, dtype=torch.float64, device=u.device)
        for part in u.split(BLOCK):  # no second copy of the data
            rest = part - mean
            covariance += rest.T @ rest
        axes = torch.linalg.eigh(covariance)[1].T.flip(0).to(u.dtype)[: len(u) - 1]
        return (
            axes
            if most is None or most >= len(axes)
            else torch.cat([axes[: most - most // 2], axes[len(axes) - most // 2 :]])
        )
    if most is None:
        raise InputError(f"the state has {d} coordinates: give axes=200 or so, since all of them take too long")
    basis = randn((d, min(most, d) + 10), generator, dtype=u.dtype, device=u.device)
    for _ in range(4):
        scores = u @ basis - mean @ basis
        basis = torch.linalg.qr(u.T @ scores - mean[:, None] * scores.sum(0))[0]
    inner = torch.linalg.svd(u @ basis - mean @ basis, full_matrices=False)[2]
    return (inner @ basis.T)[: min(most, len(u) - 1)]


def largest_cosines(axes: Tensor, u: Tensor) -> Tensor:
    """max_j <a_i, u_j> of every axis (K, d) over the directions u (N, d), shape (K,)."""
    best = axes.new_full((len(axes),), -math.inf)
    for part in u.split(BLOCK):
        best = torch.maximum(best, (part @ axes.to(part).T).amax(0).to(best))
    return best


def rejected_axes(axes: Tensor, u: Tensor, tau_data: float = 0.01) -> Tensor:
    """Those of the axes (K, d) that no direction u (N, d) faces: max_j <a_i, u_j> <= tau_data. NOT the others.

    Args:
        axes: Candidates with a sign of their own: an axis and its negative are two.
        u: Unit vectors of the data, not centred.
        tau_data: Threshold; a larger one rejects more.
    """
    return axes[largest_cosines(axes, u) <= tau_data]


def sides(axes: Tensor) -> Tensor:
    """Both sides of every axis, (2 K, d)."""
    return torch.cat([axes, -axes])


@dataclass(frozen=True)
class FitPrunedSource(Fit):
    r"""Find the empty sides of the principal axes of data, and a source that keeps off them.

    No network runs, and nothing is trained: the source serves any flow from a Gaussian (scaled or not) at sampling.
    The axes are found on states, so the data go through the flow's codec, all classes pooled. It costs a PCA and one
    pass of cosines.

    Args:
        tau_data: A side is empty if no sample has a cosine above this with it.
        tau_inf: Largest cosine of noise with an empty side; None finds the one at which `target_accept` of the draws
            pass.
        target_accept: Share of the draws that are to pass, in (0, 1].
        flips: Whether pictures count with their mirror images, as they should if the flow was trained on both.
        axes: How many principal axes are looked at; None for all.
        draws: Draws of the source from which threshold and acceptance are found.

    Source: Lee, Kim, Lee, TMLR 2025 (tau_data .01, tau_inf .048 on CIFAR-10). The published table of arguments says
    that a smaller tau_data prunes more; it prunes less.
    """

    tau_data: float = 0.01
    tau_inf: float | None = None
    target_accept: float = 0.5
    flips: bool = True
    axes: int | None = None
    draws: int = 20_000

    def __post_init__(self) -> None:
        if not -1 <= self.tau_data < 1:
            raise InputError(f"tau_data is {self.tau_data}: a cosine lies between -1 and 1")
        if self.tau_inf is not None and not -1 < self.tau_inf < 1:
            raise InputError(f"tau_inf is {self.tau_inf}: the largest cosine that is kept lies between -1 and 1")
        if not LEAST <= self.target_accept <= 1:
            raise InputError(f"target_accept is {self.target_accept}: a share of draws from {LEAST} to 1")
        if self.axes is not None and self.axes < 1:
            raise InputError(f"axes is {self.axes}: look at one principal axis at least")
        if self.draws < 1000:
            raise InputError(f"draws is {self.draws}: an acceptance is measured on 1000 draws or more")

    @property
    def name(self) -> str:
        return "pruned"

    @property
    def needs_data(self) -> bool:
        return True

    @torch.no_grad()
    def __call__(
        self,
        flow: Flow | None = None,
        data: Batch | None = None,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
    ) -> PrunedSource:
        """Find axes and threshold.

        Raises:
            InputError: If there are no data, the source cannot be drawn from without data, or next to no draw passes.
        """
        if data is None:
            raise InputError("data is None: the empty sides are found on data")
        x = data.x1
        if self.flips and x.ndim == 4:
            x = torch.cat([x, x.flip(-1)])
        if flow is not None:
            x = flow.codec.encode(x.to(flow.device), generator(seed, "pruned axes", "codec"))
        source: Source = Gaussian() if flow is None else copy.deepcopy(flow.transport.source)
        if source.needs_x1:
            raise InputError(f"the source {type(source).__name__} reads the data, so it cannot be sampled or pruned")
        u = unit_vectors(x)
        found = principal_axes(u, self.axes, generator(seed, "pruned axes", "start"))
        rejected = rejected_axes(sides(found), u, self.tau_data)
        if not len(rejected):
            return PrunedSource.of(rejected, acceptance=1.0, source=source, tau_data=self.tau_data)
        plain = PrunedSource.of(rejected.half(), source=source, tau=0.0)  # half precision: a file of half the size
        tau = self.tau_inf
        if tau is None:
            cosines = self._cosines(plain, x, seed, "threshold")
            tau = float(cosines.double().quantile(self.target_accept))
        acceptance = float((self._cosines(plain, x, seed, "acceptance") <= tau).double().mean())
        if acceptance < LEAST:
            raise InputError(
                f"tau_inf is {tau:g}, with which {acceptance:.2g} of the draws pass {len(rejected)} rejected axes: "
                "raise it, or give target_accept instead"
            )
        return PrunedSource.of(
            plain.rejected, acceptance=acceptance, source=source, tau=min(tau, 1 - 1e-7), tau_data=self.tau_data
        )

    def _cosines(self, source: PrunedSource, like: Tensor, seed: int, what: str) -> Tensor:
        """Largest cosines of draws of the source inside, (draws,)."""
        numbers = generator(seed, "pruned axes", what)
        shape, dtype = like.shape[1:], like.dtype
        counts = [min(BLOCK, self.draws - first) for first in range(0, self.draws, BLOCK)]
        return torch.cat(
            [
                source.cosines(source.source.sample((n, *shape), None, numbers, dtype=dtype, device=like.device))
                for n in counts
            ]
        )

    def summary(self, part: Part) -> list[str]:
        assert isinstance(part, PrunedSource)
        count, d = part.rejected.shape
        if not count:
            return [
                f"no side of a principal axis is empty (no largest cosine <= {self.tau_data:g}): nothing is pruned, "
                "and samples are those of the plain source"
            ]
        return [
            f"{count} sides of principal axes face no data (largest cosine <= {self.tau_data:g}), of {d} coordinates "
            "and all classes pooled",
            f"draws are kept up to the cosine {part.tau:.4g} with them: {100 * float(part.acceptance):.1f} % pass",
        ]
