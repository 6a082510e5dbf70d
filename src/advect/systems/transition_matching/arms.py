"""How both sides are sampled: kernels by calls of backbone and head, flow matching by the better of two solvers."""

from __future__ import annotations

from torch import Tensor

from advect.flow import Flow
from advect.solvers import ChainSolver, Euler, Heun
from advect.systems.framework import Figure
from advect.times import TimeGrid

FM = "flow matching, the better of Euler and Heun"
PUBLISHED = "GenEval at 16 to 32 backbone calls: .54, flow matching at 256: .47"


def chain(flow: Flow, n: int, backbone: int, head: int) -> Tensor:
    """Samples of a kernel with so many backbone calls, and so many head calls for each of them."""
    return flow.sample(n, seed=2, solver=ChainSolver(Euler(), TimeGrid(head)), grid=TimeGrid(backbone), batch_size=n)


def euler(flow: Flow, n: int, calls: int) -> Tensor:
    """Samples of a flow after so many Euler steps."""
    return flow.sample(n, seed=2, solver=Euler(), steps=calls, batch_size=n)


def better(flow: Flow, n: int, calls: int, figure: Figure) -> Tensor:
    """The better samples of Euler and Heun at so many calls (Heun makes an even number)."""
    found = [euler(flow, n, calls)]
    if calls > 1:
        found.append(flow.sample(n, seed=2, solver=Heun(), steps=calls // 2, batch_size=n))
    return min(found, key=figure)
