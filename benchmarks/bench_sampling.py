"""50 fixed Euler steps and one adaptive solve of a 2x64 MLP in 2-D, batch 256, per network call.

The reference is a loop written by hand, x = x + h * net(x, t), around the same network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import Row, measure

STEPS, BATCH = 50, 256

REASONS = {
    ("adaptive, 1e-5, 2-D, batch 256, smooth field", "advect DormandPrince"): (
        "this solve has three steps, so the choice of the first one weighs; the ratio moves between 1.16 and 1.22 from"
        " run to run"
    ),
    ("adaptive, 1e-5, 2-D, batch 256, weights tripled", "advect DormandPrince"): "noise of the machine; 1.14 to 1.19",
}


class Net(nn.Module):
    """SiLU MLP on [x, t]: what a user writes first."""

    def __init__(self, dim: int = 2, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t.expand(x.shape[0], 1)], dim=1))


def _stiff() -> Net:
    """The same network with its weights tripled: an adaptive solver then takes tens of steps, as on trained fields."""
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(3)
    return net


def hand_written(net: Callable[..., Tensor], x: Tensor, steps: int = STEPS) -> Tensor:
    """The reference."""
    times = torch.linspace(0, 1, steps + 1)
    for i in range(steps):
        x = x + (times[i + 1] - times[i]) * net(x, times[i])
    return x


def _calls(solve: Callable[[Callable[..., Tensor]], Any], net: Callable[..., Tensor]) -> float:
    counter: Counter[str] = Counter()

    def counting(x: Tensor, t: Tensor, **_: Any) -> Tensor:
        counter["calls"] += 1
        return net(x, t)

    solve(counting)
    return float(counter["calls"])


def run() -> list[Row]:
    """Fixed and adaptive."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from flow_matching.solver import ODESolver
    from torchdiffeq import odeint
    from zuko.utils import odeint as zuko_odeint

    from advect.solvers import DormandPrince, Euler

    torch.manual_seed(0)
    smooth, x = Net(), torch.randn(BATCH, 2)
    times = torch.linspace(0, 1, STEPS + 1)
    euler, adaptive = Euler(), DormandPrince(rtol=1e-5, atol=1e-5)
    scheduler = FlowMatchEulerDiscreteScheduler()

    def swapped(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda t, y: f(y, t)

    def meta(f: Callable[..., Tensor], method: str = "euler", **options: Any) -> Tensor:
        wrapped = lambda x, t, **_: f(x, t)  # noqa: E731
        return ODESolver(velocity_model=wrapped).sample(
            x_init=x, method=method, time_grid=torch.tensor([0.0, 1.0]) if method == "dopri5" else times, **options
        )

    def diffusers(f: Callable[..., Tensor]) -> Tensor:
        scheduler.set_timesteps(STEPS)
        y = x
        for step in scheduler.timesteps:
            y = scheduler.step(-f(y, 1 - step / 1000), step, y).prev_sample
        return y

    solvers: dict[str, Callable[[Callable[..., Tensor]], Any]] = {
        "hand-written": lambda f: hand_written(f, x),
        "advect Euler": lambda f: euler(f, x, STEPS),
        "torchdiffeq euler": lambda f: odeint(swapped(f), x, times, method="euler"),
        "flow_matching euler": lambda f: meta(f, "euler", step_size=None),
        "diffusers FlowMatchEuler": diffusers,
    }
    adaptives: dict[str, Callable[[Callable[..., Tensor]], Any]] = {
        "hand-written": lambda f: hand_written(f, x),
        "advect DormandPrince": lambda f: adaptive(f, x),
        "torchdiffeq dopri5": lambda f: odeint(swapped(f), x, times[[0, -1]], method="dopri5", rtol=1e-5, atol=1e-5),
        "flow_matching dopri5": lambda f: meta(f, "dopri5", step_size=None, rtol=1e-5, atol=1e-5),
    }
    adaptives["zuko odeint"] = lambda f: zuko_odeint(swapped(f), x, 0.0, 1.0, phi=(), atol=1e-5, rtol=1e-5)
    rows: list[Row] = []
    with torch.no_grad():
        adaptive_goal = {"advect DormandPrince": 1.2}
        for case, group, goals, net in (
            ("50 fixed steps, 2-D, batch 256", solvers, {"advect Euler": 1.05}, smooth),
            ("adaptive, 1e-5, 2-D, batch 256, smooth field", adaptives, adaptive_goal, smooth),
            ("adaptive, 1e-5, 2-D, batch 256, weights tripled", adaptives, adaptive_goal, _stiff()),
        ):
            rows += measure(
                "sampling",
                case,
                {name: (lambda solve=solve, net=net: solve(net)) for name, solve in group.items()},
                reference="hand-written",
                goals=goals,
                units={name: _calls(solve, net) for name, solve in group.items()},
                per="network call",
            )
    return rows
