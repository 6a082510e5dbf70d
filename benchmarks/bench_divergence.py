"""RK4 of state and log-density, exact and Hutchinson divergence, per evaluation over RK4 of the state alone.

The field is the 2x64 MLP of the sampling table, batch 256, 20 steps backwards from data to source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench_sampling import BATCH, Net
from benchmarks.common import Row, measure

STEPS = 20

REASONS = {
    (f"RK4, {STEPS} steps, 16-D, batch {BATCH}", "advect exact"): (
        "the kernels of sixteen backward passes alone cost about 17 evaluations of this network here (67 against 64"
        " microseconds each), so one backward pass per coordinate cannot reach the goal. zuko's batched backward takes"
        " as long and six times the memory, and needs a batching rule for every operation (SiLU has none"
        " and falls back to a loop with a warning)"
    ),
    (f"RK4, {STEPS} steps, 2-D, batch {BATCH}", "advect Hutchinson"): (
        "one forward pass that records (1.1 evaluations), one backward pass (1.35, of which 0.9 kernels), and the"
        " packing of state and log-density; at this size what is left is autograd's overhead per call"
    ),
}


def run() -> list[Row]:
    """2 and 16 dimensions, exact and Hutchinson."""
    from flow_matching.solver import ODESolver
    from zuko.transforms import FreeFormJacobianTransform

    from advect.solvers import RK4
    from advect.solvers.likelihood import log_prob
    from advect.sources import Gaussian
    from advect.times import TimeGrid

    rows: list[Row] = []
    for dim, goal in ((2, 4.5), (16, 14.0)):
        torch.manual_seed(0)
        net, x = Net(dim), torch.randn(BATCH, dim)
        grid = TimeGrid(STEPS, 1.0, 0.0)
        generator = torch.Generator().manual_seed(0)

        def state_alone(net: Net = net, x: Tensor = x, grid: TimeGrid = grid) -> Tensor:
            with torch.no_grad():
                return RK4()(net, x, grid)

        def ours(divergence: str, net: Net = net, x: Tensor = x, grid: TimeGrid = grid, g: Any = generator) -> Any:
            with torch.no_grad():
                return log_prob(net, x, Gaussian(), solver=RK4(), grid=grid, divergence=divergence, generator=g)

        def meta(exact: bool, net: Net = net, x: Tensor = x) -> Any:
            normal = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(x.shape[1]), 1.0), 1)
            return ODESolver(velocity_model=lambda x, t, **_: net(x, t)).compute_likelihood(
                x_1=x, log_p0=normal.log_prob, method="rk4", step_size=1 / STEPS, exact_divergence=exact
            )

        candidates: dict[str, Callable[[], Any]] = {
            "RK4 of the state alone": state_alone,
            "advect exact": lambda: ours("exact"),
            "advect Hutchinson": lambda: ours("hutchinson"),
            "flow_matching exact": lambda: meta(True),
            "flow_matching Hutchinson": lambda: meta(False),
        }
        units = dict.fromkeys(candidates, float(4 * STEPS))
        for exact in (True, False):
            transform = FreeFormJacobianTransform(
                lambda t, y, net=net: net(y, t), t0=1.0, t1=0.0, phi=list(net.parameters()), exact=exact
            )
            name = f"zuko {'exact' if exact else 'Hutchinson'} (adaptive, per evaluation)"
            calls = {"n": 0}

            def counted(t: Tensor, y: Tensor, net: Net = net, calls: dict[str, int] = calls) -> Tensor:
                calls["n"] += 1
                return net(y, t)

            def solve(transform: Any = transform, x: Tensor = x) -> Any:
                with torch.no_grad():
                    return transform.call_and_ladj(x)

            kept, transform.f = transform.f, counted
            solve()
            transform.f = kept
            candidates[name], units[name] = solve, float(calls["n"])
        rows += measure(
            "divergence",
            f"RK4, {STEPS} steps, {dim}-D, batch {BATCH}",
            candidates,
            reference="RK4 of the state alone",
            goals={"advect exact": goal, "advect Hutchinson": 2.8},
            units=units,
            per="evaluation",
            rounds=20,
        )
    return rows
