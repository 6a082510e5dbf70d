r"""Entropic optimal transport: Sinkhorn's plan, and permutations drawn from it.

    P = argmin_P <P, C> + reg KL(P | a x b)  =  exp(f + g - C/reg),   row sums a, column sums b      (1)

The kernel of (1) is exp(-C/reg). For C = |x0 - x1|^2 the plan is the static Schroedinger bridge of Brownian motion
sigma W at reg = 2 sigma^2, that is reg = 4 e for a diffusion sqrt(2 e) dW.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advect import randomness
from advect.couplings.assignment import assign
from advect.couplings.base import Coupling, Pairs
from advect.couplings.groups import Cloud, solve_in_groups
from advect.couplings.minibatch import check_penalty
from advect.errors import InputError

_INNER = 20  # plain scalings between two steps in the log domain


class Plan(NamedTuple):
    """A transport plan: its logarithm (..., n, m), and the largest error of a row sum relative to the row's mass."""

    log_plan: Tensor
    error: Tensor


def sinkhorn(
    cost: Tensor,
    reg: float | Tensor,
    log_a: Tensor | None = None,
    log_b: Tensor | None = None,
    *,
    steps: int = 1000,
    tolerance: float = 1e-6,
) -> Plan:
    r"""Sinkhorn's plan for one cost matrix or a batch of them, stable at any temperature.

    Steps in the log domain alternate with runs of plain matrix-vector scalings of the balanced kernel, which cost a
    tenth; a run that leaves the range of floats is dropped, so it saves time and never spoils the plan.

    Args:
        cost: C, shape (..., n, m).
        reg: Temperature, above 0, in units of the cost.
        log_a: Logarithms of the row sums, shape (..., n); None for 1/n.
        log_b: Logarithms of the column sums, shape (..., m); None for 1/m.
        steps: Most scalings of each side.
        tolerance: Stop when no row sum is off by more than this share of it (column sums are exact).

    Returns:
        The plan (1) of the module and the error it was left with, which exceeds `tolerance` if `steps` ran out.

    Raises:
        InputError: If a cost is not finite or reg is not above 0.

    Source: M. Cuturi, arXiv 1306.0895; B. Schmitzer, arXiv 1610.06519 for the alternation.
    """
    if not 0 < float(reg) < math.inf:
        raise InputError(f"reg is {float(reg)}: the temperature of an entropic plan is above 0 and finite")
    if not bool(torch.isfinite(cost).all()):
        raise InputError("cost holds NaN or infinity: every pair needs a finite cost")
    n, m = cost.shape[-2:]
    log_a = cost.new_full((n,), -math.log(n)) if log_a is None else log_a
    log_b = cost.new_full((m,), -math.log(m)) if log_b is None else log_b
    kernel = cost / -reg
    g = torch.zeros_like(kernel[..., 0, :])
    done = 0
    while True:
        f = log_a - torch.logsumexp(kernel + g[..., None, :], -1)
        g = log_b - torch.logsumexp(kernel + f[..., :, None], -2)
        log_plan = kernel + f[..., :, None] + g[..., None, :]
        plan = log_plan.exp()
        error = (plan.sum(-1) / log_a.exp() - 1).abs().amax()
        done += 1 + _INNER
        if done > steps or bool(error <= tolerance):
            return Plan(log_plan, error)
        columns = _scale(plan, log_a.exp(), log_b.exp())
        if bool(torch.isfinite(columns).all()):
            g = g + columns


def _scale(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Logarithms of the column factors after plain scalings of a nearly balanced plan."""
    columns = torch.ones_like(plan[..., 0, :])
    for _ in range(_INNER):
        rows = a / (plan @ columns[..., None])[..., 0]
        columns = b / (rows[..., None, :] @ plan)[..., 0, :]
    return columns.log()


@dataclass(frozen=True)
class SinkhornOT(Coupling):
    r"""A random permutation whose pairs follow Sinkhorn's plan with kernel exp(-|x0 - x1|^2 / reg).

    The permutation is p = argmax sum_j log P[j, p(j)] + G[j, p(j)] with independent Gumbel numbers G: for one row this
    is an exact draw from the plan; over the whole batch every sample is used once, and the mean cost of the pairs is
    the plan's within a few percent. x1, its labels and conditions stay where they are.

    Args:
        reg: Temperature in squared data units; 2 sigma^2 for the Schroedinger bridge of sigma W. See `relative`.
        relative: Take `reg` as a share of the batch's mean squared distance instead.
        within: Name of the condition that pairs share, for example "label"; None pairs across the whole batch.
        penalty: Cost of a pair whose condition differs (squared data units): for classes per pair, for real
            conditions per squared difference; None forbids such pairs.
        steps: Most Sinkhorn steps.
        tolerance: Relative error of the plan's row sums at which Sinkhorn stops.

    Source: arXiv 2302.00482 section 3.4 (bridges), which draws pairs with replacement. In torchcfm the class for
    Schroedinger bridges pairs exactly by default, so its reg = 2 sigma^2 stays unused.
    """

    reg: float = 0.05
    relative: bool = False
    within: str | None = None
    penalty: float | None = None
    steps: int = 500
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.reg < math.inf:
            raise InputError(f"reg is {self.reg}: the temperature of an entropic plan is above 0 and finite")
        if self.steps < 1 or not self.tolerance > 0:
            raise InputError(
                f"steps={self.steps}, tolerance={self.tolerance}: Sinkhorn needs steps >= 1, tolerance > 0"
            )
        check_penalty(self.within, self.penalty)

    def __call__(
        self,
        x0: Tensor,
        x1: Tensor,
        cond: Mapping[str, Tensor] | None = None,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Pairs:
        # The mean squared distance of all pairs, in closed form; groups share one temperature.
        a, b = x1.detach().reshape(x1.shape[0], -1), x0.detach().reshape(x0.shape[0], -1)
        scale = (a.var(0, False) + b.var(0, False) + (a.mean(0) - b.mean(0)).square()).sum() if self.relative else 1.0
        reg = self.reg * scale

        def draw(cloud: Cloud) -> Tensor:
            plan = sinkhorn(cloud.products, reg, steps=self.steps, tolerance=self.tolerance)
            u = randomness.rand(plan.log_plan.shape, generator, dtype=torch.float64, device=plan.log_plan.device)
            # -log of an exponential number; 2^-54 keeps the one draw in 2^53 that is 0 finite.
            gumbel = -(2.0**-54 - torch.log1p(-u)).log()
            return assign(-(plan.log_plan + gumbel))

        return solve_in_groups(draw, x0, x1, cond, rows, self.within, self.penalty)
