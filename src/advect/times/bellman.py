r"""The grid of K steps whose one-step Euler errors have the least sum, found by dynamic programming on measured costs.

The costs c[i, j] of one step between any two nodes of a fine grid are measured once (:mod:`advect.fitting`); the best
grid for every K follows from that one matrix in milliseconds. Convention: t=0 is the source, t=1 the data.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.times.base import Grid


def bellman_values(costs: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    r"""The dynamic programme for 1, ..., `steps` edges at once.

        V(i, 1) = c[i, F],    V(i, k) = min_{i < j < F} c[i, j] + V(j, k-1)

    Exactly k edges, not at most k: with few edges the cost may well be lower, as where a long step happens to be exact.

    Args:
        costs: c (F+1, F+1), the cost of a step from node i to node j; only entries above the diagonal are read.
        steps: The largest number of edges, 1 to F.

    Returns:
        V (steps+1, F+1) in float64, inf where there is no such path (and for k=0), and the next node on the way,
        int64 (steps+1, F+1).
    """
    c = costs.double()
    last = len(c) - 1
    # what lies on or below the diagonal is no step; that keeps the edge from the last node to itself out too
    c = c.masked_fill(~torch.ones_like(c, dtype=torch.bool).triu(1), torch.inf)
    values = c.new_full((steps + 1, last + 1), torch.inf)
    following = torch.full((steps + 1, last + 1), last, dtype=torch.int64, device=c.device)
    values[1] = c[:, last]
    for k in range(2, steps + 1):
        values[k], following[k] = (c + values[k - 1]).min(1)
    return values, following


def bellman_path(costs: Tensor, steps: int) -> tuple[list[int], float]:
    """The path of exactly `steps` edges from node 0 to the last one with the least cost, and that cost.

    Args:
        costs: c (F+1, F+1); only entries above the diagonal are read.
        steps: Number of edges, 1 to F.

    Returns:
        The steps+1 node numbers, rising from 0 to F, and V(0, steps).

    Raises:
        InputError: If there are fewer nodes than edges ask for.
    """
    _check_costs(costs)
    last = len(costs) - 1
    if not 1 <= steps <= last:
        raise InputError(f"steps is {steps}: costs between {last + 1} nodes give grids of 1 to {last} steps")
    values, following = bellman_values(costs, steps)
    nodes, table = [0], following.tolist()
    for k in range(steps, 0, -1):
        nodes.append(table[k][nodes[-1]])
    return nodes, float(values[steps, 0])


class BellmanGrid(ModulePart, Grid):
    r"""The K-step grid with the least sum of squared one-step Euler errors of one flow.

        minimise sum_k c[n_k, n_{k+1}]  over  0 = n_0 < n_1 < ... < n_K = F,
        c[i, j] = E |x_i + (t_j - t_i) v(x_i, t_i) - x_j|^2  with x_i on ONE fine Euler trajectory

    Made by :class:`advect.fitting.FitBellman` or :meth:`from_costs`; it belongs to the weights it was fitted on, and to
    the guidance they ran under. ``with_steps(K)`` is the best grid of any other K, from the same costs. The criterion
    is local: what it lowers is the sum of the one-step errors, and the error at the end usually, but not always.

    Args:
        steps: K, 1 to `fine`.
        fine: F, the number of steps of the fine grid.
        fitted_on: Hash of the weights it was fitted on.
        fitted_under: The guidance it was fitted under, as text; None for none.
        samples: How many trajectories were averaged.

    Raises:
        InputError: If `steps` is not between 1 and `fine`; and by :meth:`times`, if it was never fitted.

    Source: BOSS, arXiv 2312.16414 (ICLR 2024), sections 3 and 4. The released code minimises the same sum.
    """

    costs: Tensor
    nodes: Tensor
    for_noise = False  # an error of Euler's rule; a step that draws noise has another one

    def __init__(
        self,
        steps: int = 8,
        fine: int = 100,
        fitted_on: str | None = None,
        fitted_under: str | None = None,
        samples: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= steps <= fine:
            raise InputError(
                f"steps is {steps}: a Bellman grid has 1 to {fine} steps, as many as the fine grid it is chosen from"
            )
        self.steps, self.fine, self.samples = steps, fine, samples
        self.fitted_on, self.fitted_under = fitted_on, fitted_under
        self.register_buffer("costs", torch.empty(0, 0, dtype=torch.float64))
        self.register_buffer("nodes", torch.empty(0, dtype=torch.float64))

    @classmethod
    def from_costs(
        cls,
        costs: Tensor,
        nodes: list[float],
        steps: int = 8,
        *,
        fitted_on: str | None = None,
        fitted_under: str | None = None,
        samples: int = 0,
    ) -> BellmanGrid:
        """A fitted grid.

        Args:
            costs: c (F+1, F+1), finite and at least 0 above the diagonal; the rest is not read.
            nodes: The F+1 times of the fine grid, rising.
            steps: K.
            fitted_on: Hash of the weights.
            fitted_under: The guidance, as text.
            samples: How many trajectories were averaged.
        """
        _check_costs(costs)
        if len(nodes) != len(costs) or any(b <= a for a, b in itertools.pairwise(nodes)):
            raise InputError(f"nodes are {len(nodes)} times for costs of {len(costs)} nodes: give one each, rising")
        grid = cls(steps, len(nodes) - 1, fitted_on, fitted_under, samples)
        grid.costs = costs.detach().double().triu(1)
        grid.nodes = torch.tensor(nodes, dtype=torch.float64)
        return grid

    @property
    def fitted(self) -> bool:
        """Whether costs were measured."""
        return len(self.nodes) > 0

    @property
    def found_for(self) -> str | None:
        return "Euler" if self.fitted else None

    def path(self) -> list[int]:
        """The K+1 node numbers on the fine grid, from 0 to F."""
        return bellman_path(self._costs(), self.steps)[0]

    def value(self) -> float:
        """The least sum of the costs of K steps, V(0, K)."""
        return bellman_path(self._costs(), self.steps)[1]

    def cost_of(self, path: list[int]) -> float:
        """The sum of the costs along any node numbers, to compare other grids on the same fine nodes."""
        return float(self._costs()[path[:-1], path[1:]].sum())

    def times(self, interpolant: Any = None) -> list[float]:
        fine = self.nodes.tolist() if self.fitted else []
        return [fine[i] for i in self.path()]

    def with_steps(self, steps: int) -> BellmanGrid:
        """The best grid of another number of steps, from the same costs."""
        other = BellmanGrid(steps, self.fine, self.fitted_on, self.fitted_under, self.samples)
        other.costs, other.nodes = self.costs, self.nodes
        return other

    def described(self) -> dict[str, Any]:
        """The grid in plain values, as JSON can hold them; the costs are in :attr:`costs`."""
        return {
            "times": self.times(),
            "path": self.path(),
            "fine": self.fine,
            "samples": self.samples,
            "cost": self.value(),
            "fitted_on": self.fitted_on,
            "fitted_under": self.fitted_under,
        }

    def __repr__(self) -> str:
        return f"BellmanGrid(steps={self.steps}, fine={self.fine})"

    def _costs(self) -> Tensor:
        if not self.fitted:
            raise InputError(
                "the Bellman grid holds no costs, because it was not fitted on a flow: run advect calibrate FLOW "
                "--fit FitBellman, and sample with --fitted bellman"
            )
        return self.costs

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Buffers found by fitting take the file's shape."""
        for name in ("costs", "nodes"):
            if (value := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(value, device=self.nodes.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _check_costs(costs: Tensor) -> None:
    if costs.ndim != 2 or costs.shape[0] != costs.shape[1] or len(costs) < 2:
        raise InputError(f"costs have shape {tuple(costs.shape)}: they are square, one row and column per node")
    above = costs[tuple(torch.triu_indices(len(costs), len(costs), 1))]
    if not bool((torch.isfinite(above) & (above >= 0)).all()):
        raise InputError("costs above the diagonal are negative or not finite: does the field blow up on the way?")
