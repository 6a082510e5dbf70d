"""Exact optimal transport pairing of Gaussian noise with uniform data, cost matrix included.

The reference is the faster of scipy (`cdist` and `linear_sum_assignment`) and POT (`ot.dist` and `ot.emd`) of the case;
all are given the same float32 numbers and reach the same total cost, which is checked before the timing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ot
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from advect.couplings import MinibatchOT, SinkhornOT
from benchmarks.common import Row, measure, show

GOALS = {2: 0.9, 784: 0.5}


def run() -> list[Row]:
    """All sizes and dimensions."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    for dimension in (2, 784):
        for n in (256, 1024):
            rows += _case(n, dimension)
    return rows


def _case(n: int, dimension: int) -> list[Row]:
    generator = torch.Generator().manual_seed(n + dimension)
    x0 = torch.randn(n, dimension, generator=generator)
    x1 = 2 * torch.rand(n, dimension, generator=generator) - 1
    a, b = x0.numpy(), x1.numpy()
    mass = np.full(n, 1 / n)
    exact, entropic = MinibatchOT(), SinkhornOT(reg=0.05, relative=True)

    def scipy() -> Any:
        return linear_sum_assignment(cdist(b, a, "sqeuclidean"))[1]

    def pot() -> Any:
        return ot.emd(mass, mass, ot.dist(b, a), numItermax=10_000_000).argmax(1)

    candidates: dict[str, Callable[[], Any]] = {
        "scipy": scipy,
        "POT": pot,
        "advect exact": lambda: exact(x0, x1).i0,
        "advect Sinkhorn": lambda: entropic(x0, x1).i0,
    }
    cost = cdist(b, a, "sqeuclidean")
    totals = {
        name: cost[np.arange(n), np.asarray(candidates[name]())].sum() for name in ("scipy", "POT", "advect exact")
    }
    if max(totals.values()) > min(totals.values()) * (1 + 1e-7):
        raise AssertionError(f"the total costs differ: {totals}")
    rows = measure(
        "coupling",
        f"{n} pairs, {dimension}-d",
        candidates,
        reference=_faster(scipy, pot),
        goals={"advect exact": GOALS[dimension]},
        rounds=15,
    )
    return rows


def _faster(scipy: Callable[[], Any], pot: Callable[[], Any]) -> str:
    spent = {}
    for name, work in (("scipy", scipy), ("POT", pot)):
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        spent[name] = sorted(times)[1]
    return min(spent, key=lambda name: spent[name])


if __name__ == "__main__":
    show(run())
