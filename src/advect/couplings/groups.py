"""Pairing by a solver, on the whole batch or apart within labels and ragged samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from advect.couplings.assignment import all_finite
from advect.couplings.base import Pairs
from advect.errors import InputError

_EXACT_WIDTH = 64  # up to here float64 products cost next to nothing; above, float32 halves the time of the product


class Cloud(NamedTuple):
    """What a solver is given: x1 and x0 as rows (n, d) about one common centre, and further costs (n, n) or None.

    Costs of pairs are |x1 - x0|^2 + extra. Terms of x1 alone or x0 alone change no permutation's rank, so solvers may
    use -2 x1.x0 for the square.
    """

    x1: Tensor
    x0: Tensor
    extra: Tensor | None

    @property
    def products(self) -> Tensor:
        """-2 x1.x0 + extra, shape (n, n), row = x1: the cost of each pair, less what belongs to one end alone."""
        cost = (self.x1 @ self.x0.T).mul_(-2)
        return cost if self.extra is None else cost.add_(self.extra)


Solver = Callable[[Cloud], Tensor]


def solve_in_groups(
    solve: Solver,
    x0: Tensor,
    x1: Tensor,
    cond: Mapping[str, Tensor] | None,
    rows: Tensor | None,
    within: str | None,
    penalty: float | None,
) -> Pairs:
    """Permute x0 so that it suits x1; x1, its labels and everything that belongs to it stay where they are.

    Args:
        solve: Gives for each row of x1 the row of x0 that goes with it.
        x0: Source, shape (n, *shape).
        x1: Data, shape (n, *shape).
        cond: Conditions by name; `within` names one of them.
        rows: The sample of each row of ragged data: rows are then paired inside their sample, whatever `within` says.
        within: Name of the condition that pairs should share, or None.
        penalty: Cost of a pair whose conditions differ; None forbids it.
    """
    if x0.shape != x1.shape:
        raise InputError(
            f"x0 has shape {tuple(x0.shape)} and x1 {tuple(x1.shape)}: a permutation needs as many of the same shape"
        )
    for name, x in (("x0", x0), ("x1", x1)):
        if not all_finite(x):
            raise InputError(f"{name} holds NaN or infinity, so its pairs have no cost: look for the broken samples")
    label = None if within is None or rows is not None else _condition(cond, within, penalty, x1.shape[0])
    apart = label if rows is None else rows
    if apart is None or (rows is None and penalty is not None):
        extra = None if label is None or penalty is None else _mismatch(label) * penalty
        return Pairs(i0=solve(_cloud(x0, x1, extra)))
    i0 = torch.empty(x1.shape[0], dtype=torch.int64, device=x1.device)
    for member in _members(apart):
        i0[member] = member[solve(_cloud(x0[member], x1[member], None))]
    return Pairs(i0=i0)


def _cloud(x0: Tensor, x1: Tensor, extra: Tensor | None) -> Cloud:
    n = x1.shape[0]
    a, b = x1.detach().reshape(n, -1), x0.detach().reshape(n, -1)
    wide = torch.float64 if a.shape[1] <= _EXACT_WIDTH else torch.promote_types(a.dtype, torch.float32)
    a, b = a.to(wide), b.to(wide)
    # A common centre near zero keeps the products free of cancellation; each end may have its own.
    return Cloud(a - a.mean(0), b - b.mean(0), None if extra is None else extra.to(wide))


def _condition(cond: Mapping[str, Tensor] | None, name: str, penalty: float | None, n: int) -> Tensor:
    if cond is None or name not in cond:
        raise InputError(
            f"within is '{name}', but the batch brings the conditions {sorted(cond or {})}: name one of them"
        )
    value = cond[name]
    if penalty is None and value.is_floating_point():
        raise InputError(f"within is '{name}', which holds real numbers: give a penalty per squared difference instead")
    if value.shape[0] != n:
        raise InputError(f"condition '{name}' has {value.shape[0]} values for {n} samples: give one per sample")
    return value


def _mismatch(label: Tensor) -> Tensor:
    """1 where classes differ; for real conditions the squared distance."""
    flat = label.reshape(label.shape[0], -1)
    if label.is_floating_point():
        flat = flat.double()
        return torch.cdist(flat, flat).square()
    return (flat[:, None] != flat[None]).any(-1).double()


def _members(label: Tensor) -> tuple[Tensor, ...]:
    """Indices of each distinct label."""
    flat = label.reshape(label.shape[0], -1)
    group = torch.unique(flat, dim=0, return_inverse=True)[1] if flat.shape[1] > 1 else flat[:, 0]
    order = torch.argsort(group, stable=True)
    sizes = torch.unique_consecutive(group[order], return_counts=True)[1]
    return torch.split(order, sizes.tolist())
