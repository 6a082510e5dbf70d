"""Exact optimal transport between the samples of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from advect.couplings.assignment import assign
from advect.couplings.base import Coupling, Pairs
from advect.couplings.groups import Cloud, solve_in_groups
from advect.errors import InputError


@dataclass(frozen=True)
class MinibatchOT(Coupling):
    r"""The permutation of x0 with the least total squared distance: min_p sum_j |x0[p(j)] - x1[j]|^2.

    Every sample of the batch is kept. x1 does not move, so labels and conditions stay with their data. Across labels
    transport ties the source to the label, and conditional sampling from a free source is then biased (C2OT, arXiv
    2503.10636): `within` pairs inside each label alone.

    Args:
        within: Name of the condition that pairs share, for example "label"; None pairs across the whole batch.
        penalty: Cost of a pair whose condition differs (squared data units): for classes per pair, for real
            conditions per squared difference; None forbids such pairs.

    Source: arXiv 2302.00482 and 2304.14772. torchcfm draws pairs with replacement from the plan, which drops about a
    third of the batch, and leaves labels behind unless its guided variant is used.
    """

    within: str | None = None
    penalty: float | None = None

    def __post_init__(self) -> None:
        check_penalty(self.within, self.penalty)

    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs:
        return solve_in_groups(_least_cost, x0, x1, cond, rows, self.within, self.penalty)


def check_penalty(within: str | None, penalty: float | None) -> None:
    """Refuse a penalty without a condition, and one that is no cost."""
    if penalty is None:
        return
    if within is None:
        raise InputError(f"penalty is {penalty}, but within is None: name the condition that pairs should share")
    if not 0 <= penalty < float("inf"):
        raise InputError(f"penalty is {penalty}: give a finite cost of at least 0, or None to forbid such pairs")


def _least_cost(cloud: Cloud) -> Tensor:
    if cloud.x1.shape[1] > 1 or cloud.extra is not None:
        return assign(cloud.products)
    # On a line the sorted order is optimal.
    best = torch.empty(cloud.x1.shape[0], dtype=torch.int64, device=cloud.x1.device)
    best[cloud.x1[:, 0].argsort(stable=True)] = cloud.x0[:, 0].argsort(stable=True)
    return best
