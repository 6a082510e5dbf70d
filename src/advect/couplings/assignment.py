r"""The least-cost permutation of a square cost matrix, started from good prices.

scipy's assignment solver adds one row after the other and looks for the shortest path to a free column; its time goes
into columns looked at on the way. Subtracting a price v_j from every column changes no permutation's rank, and with
prices near the optimal ones nearly every search ends at once. A few Sinkhorn steps give such prices for a fraction of
the time they save; the optimum stays exact, because the prices shift all permutations alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advect.errors import InputError, require

_WORTH_PRICES = 128  # below this size the bare solver is as fast as the prices
_STEPS = (3, 3, 5, 5, 5)  # Sinkhorn steps at each temperature, a third of the one before
_FIRST = 0.3  # the first temperature, in standard deviations of the costs
_LARGE = 512  # below this size the last two temperatures cost more than they save


def assign(cost: Tensor) -> Tensor:
    r"""The permutation p that minimises sum_i cost[i, p(i)], exactly.

    Args:
        cost: Square matrix (n, n) of float32 or float64; float32 costs are compared exactly as they are given.

    Returns:
        Column of each row, shape (n,), int64, on the cost's device.

    Raises:
        InputError: If the matrix is not square or a cost is not finite.
        MissingExtra: If scipy is not installed.

    Source: R. Jonker and A. Volgenant, Computing 38 (1987); D. F. Crouse, IEEE TAES 52 (2016) for scipy's solver.
    """
    linear_sum_assignment = require("scipy.optimize", "ot", "exact transport").linear_sum_assignment
    if cost.ndim != 2 or cost.shape[0] != cost.shape[1]:
        raise InputError(f"cost has shape {tuple(cost.shape)}: an assignment needs a square matrix (n, n)")
    matrix = cost.detach().to("cpu")
    if not all_finite(matrix):
        raise InputError("cost holds NaN or infinity: every pair needs a finite cost")
    exact = matrix.double()
    if matrix.shape[0] >= _WORTH_PRICES:
        prices = _prices(matrix.float())
        if all_finite(prices):
            exact = exact - prices
    return torch.from_numpy(linear_sum_assignment(exact.numpy())[1]).to(cost.device)


def all_finite(x: Tensor) -> bool:
    """Whether every value is finite; the sum says so in one pass, unless it overflows itself."""
    return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())


def _prices(cost: Tensor) -> Tensor:
    """Column potentials (n,), float64, of an entropic plan whose temperature falls; nearly optimal, never relied on."""
    spread = float(cost.std())
    prices = torch.zeros(cost.shape[0], dtype=torch.float64)
    if not spread > 0:
        return prices
    temperature = _FIRST * spread
    kernel = (cost.amin(1, keepdim=True) - cost).mul_(1 / temperature).exp_()
    tiny = torch.finfo(kernel.dtype).tiny
    rows = columns = torch.ones_like(kernel[0])
    for stage, steps in enumerate(_STEPS if cost.shape[0] >= _LARGE else _STEPS[:3]):
        if stage:  # balance the kernel; at a third of the temperature it is its cube
            kernel.mul_(rows[:, None]).mul_(columns).pow_(3)
            temperature /= 3
            columns = torch.ones_like(columns)
        for _ in range(steps):
            rows = 1 / (kernel @ columns + tiny)
            columns = 1 / (rows @ kernel + tiny)
        prices += temperature * columns.double().log_()
    return prices
