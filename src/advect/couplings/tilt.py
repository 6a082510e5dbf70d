r"""What weights on pairs do to the two ends, and which scale of them is still mild.

A weight w(x0, x1) on independent pairs makes the coupling q prop. w mu nu. Its marginals are tilted,

    q(x0) prop. mu(x0) T(x0),   T(x0) = E_{x1 ~ nu} w(x0, x1),   and likewise at the other end,

and they are mu and nu if and only if both T are constant: Var(T) / E[T]^2 measures by how much they are not. The
samples of a training are worth as many equal ones as the effective sample size says, (sum w)^2 / sum w^2.

Everything here takes logarithms of weights and forms ratios only, so that no scale under- or overflows.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advect.errors import InputError

Cost = Literal["norm", "squared"]

_FEW = 0.1  # the search for an elbow begins where a tenth of the pairs counts
_FLAT = 0.01  # and ends where the tilt is a hundredth
_PER_OCTAVE = 4
_EXACT_WIDTH = 64  # up to here products in float64 cost next to nothing


class Spread(NamedTuple):
    """Standard deviations of a cost over pairs: of its mean given x0, given x1, and of the rest."""

    source: float
    data: float
    interaction: float

    @property
    def interaction_share(self) -> float:
        """Share of the cost's variance that neither end explains alone: how much of the weight is a coupling."""
        total = self.source**2 + self.data**2 + self.interaction**2
        return self.interaction**2 / total if total else 0.0


def pair_cost(x0: Tensor, x1: Tensor, cost: Cost = "norm") -> Tensor:
    """c(x0, x1) of each pair, shape (B,): |x0 - x1| over all dimensions but the first, or its square."""
    apart = x1 - x0
    if apart.ndim == 1:
        norm = apart.abs()
    else:
        dim = 1 if apart.ndim == 2 else tuple(range(1, apart.ndim))
        norm = torch.linalg.vector_norm(apart, dim=dim, dtype=torch.float32 if apart.dtype.itemsize < 4 else None)
    return norm if cost == "norm" else norm.square()


def all_costs(x0: Tensor, x1: Tensor, cost: Cost = "norm") -> Tensor:
    """c of every x0 (n, *shape) with every x1 (m, *shape), shape (n, m); float64 for up to 64 coordinates."""
    a, b = x0.reshape(len(x0), -1), x1.reshape(len(x1), -1)
    wide = torch.float64 if a.shape[1] <= _EXACT_WIDTH else torch.promote_types(a.dtype, torch.float32)
    norm = torch.cdist(a.to(wide), b.to(wide))
    return norm if cost == "norm" else norm.square()


def effective_share(log_weight: Tensor) -> Tensor:
    r"""(sum w)^2 / (n sum w^2) of all weights, in (0, 1]: 1 if they are equal, 1/n if one carries all."""
    log_weight = log_weight.flatten().double()
    twice = 2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)
    return twice.exp() / len(log_weight)


def tilt_variance(log_weight: Tensor, *, unbiased: bool = True) -> tuple[Tensor, Tensor]:
    r"""Var(T) / E[T]^2 at the source and at the data, from the log weights (n, m) of all pairs of two samples.

    The mean of m weights stands for T(x0), and its own noise adds to the variance; with `unbiased` products of two
    different partners stand for T^2, so that the figure is right on average (and may be a little below 0). Nodes of a
    quadrature are no sample: there `unbiased` is False.
    """
    if log_weight.ndim != 2 or min(log_weight.shape) < 2:
        raise InputError(f"log_weight has shape {tuple(log_weight.shape)}: give all pairs (n, m) of two samples")
    weight = (log_weight - log_weight.max()).double().exp()
    square = weight.square() if unbiased else None
    return _variance(weight, square, 1), _variance(weight, square, 0)


def _variance(weight: Tensor, square: Tensor | None, along: int) -> Tensor:
    total, m = weight.sum(along), weight.shape[along]
    second = total.square() / m**2 if square is None else (total.square() - square.sum(along)) / (m * (m - 1))
    return second.mean() / weight.mean().square() - 1


def spread(cost: Tensor) -> Spread:
    """Split the variance of a cost (n, m) over all pairs into that of each end and of their interaction."""
    rows, columns, mean = cost.mean(1, keepdim=True), cost.mean(0, keepdim=True), cost.mean()
    rest = cost - rows - columns + mean
    n, m = cost.shape
    inner = rest.square().sum() / max((n - 1) * (m - 1), 1)  # noise of the means of m and n partners taken out
    source = (rows.var() - inner / m).clamp(min=0)
    data = (columns.var() - inner / n).clamp(min=0)
    return Spread(float(source.sqrt()), float(data.sqrt()), float(inner.sqrt()))


def tilt_curve(cost: Tensor, scales: Tensor) -> Tensor:
    """For each scale eps of w = exp(-c/eps), shape (K, 4): eps, tilt variance of source and data, effective share."""
    lowest, rows = cost.min(), list[Tensor]()
    for eps in scales:
        weight = ((lowest - cost) / eps).double().exp()
        square = weight.square()
        share = weight.mean().square() / square.mean()
        rows.append(torch.stack([eps.double(), _variance(weight, square, 1), _variance(weight, square, 0), share]))
    return torch.stack(rows)


def elbow_curve(cost: Tensor) -> Tensor:
    """The curve over scales four to an octave, from a tenth of the pairs counting up to a tilt of a hundredth.

    Raises:
        InputError: If all pairs cost the same.
    """
    unit = float(cost.std())
    if not unit > 1e-6 * float(cost.mean()):
        raise InputError("all pairs of x0 and x1 cost the same, so no weight tells them apart: look at the data")
    place, rows = -3 * _PER_OCTAVE, list[Tensor]()
    while not rows or float(rows[-1][1:3].max()) > _FLAT:
        row = tilt_curve(cost, torch.tensor([unit * 2 ** (place / _PER_OCTAVE)], dtype=torch.float64))[0]
        place += 1
        if float(row[3]) >= _FEW:
            rows.append(row)
    return torch.stack(rows)


def elbow(curve: Tensor) -> float:
    r"""The scale where the larger of the two tilt variances stops falling fast: furthest below the chord of its ends.

    Both axes are linear, and the ends are those of :func:`elbow_curve`: where a tenth of the pairs counts, and where
    the tilt is a hundredth. Without any tilt that is the smallest of the scales.

    Args:
        curve: From :func:`elbow_curve`, (K, 4), by rising scale.
    """
    scale, tilt = curve[:, 0], curve[:, 1:3].amax(1)
    if len(curve) < 3:
        return float(scale[0])
    along = (scale - scale[0]) / (scale[-1] - scale[0])
    chord = tilt[0] + along * (tilt[-1] - tilt[0])
    return float(scale[int((chord - tilt).argmax())])
