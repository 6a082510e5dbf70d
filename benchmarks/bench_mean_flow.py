"""A training step (loss, forward, backward) of average velocities over a plain flow matching step of the same network.

Batch 32 of 3x32x32, a U-Net and a transformer of about a million parameters each, zero layers filled. The first three
have r < t for every sample, the last two for the published shares; samples with r = t pay no derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advect import Batch, NetSpec
from advect.networks import DiT, Network, UNet
from advect.objectives import FlowMatching, MeanFlow, Networks, Objective, SplitMeanFlow
from advect.times import LogitNormal, SortedPairs, Uniform
from benchmarks.common import Row, measure, show

_PASSES = (
    "two forward passes without a graph, each .3 of the step of the reference; most of them are convolutions, which run"
    " at the same rate with and without a graph"
)
REASONS = {("U-Net, batch 32 of 3x32x32", what): _PASSES for what in ("differences", "splits")}
SHAPE, BATCH = (3, 32, 32), 32
GOALS = {"JVP": 1.9, "differences": 1.55, "splits": 1.6, "JVP, 25 % r < t": 1.3, "JVP, 75 % r < t": 1.75}
NETS: dict[str, Callable[[NetSpec], Network]] = {
    "U-Net": lambda spec: UNet(spec, "XS", width=36),
    "DiT": lambda spec: DiT(spec, "XXS"),
}


def run() -> list[Row]:
    """Both networks."""
    rows: list[Row] = []
    for name, make in NETS.items():
        rows += measure(
            "mean_flow",
            f"{name}, batch {BATCH} of 3x32x32",
            candidates(make),
            reference="flow matching",
            goals=GOALS,
            per="step",
            rounds=9,
        )
    return rows


def candidates(make: Callable[[NetSpec], Network]) -> dict[str, Callable[[], Any]]:
    """The steps, each with a network of its own."""
    velocity = _filled(make(NetSpec(SHAPE)))
    net = _filled(make(NetSpec(SHAPE, times=2)))
    nowhere, quarter = SortedPairs(Uniform(), 0.0), SortedPairs(LogitNormal(0.4, 1.0), 0.75)
    splits = SplitMeanFlow(velocity="data")
    splits.pairs = nowhere  # its constructor refuses this, for good reasons that do not matter for its time
    objectives: dict[str, Objective] = {
        "JVP": MeanFlow(nowhere),
        "differences": MeanFlow(nowhere, "differences"),
        "splits": splits,
        "JVP, 25 % r < t": MeanFlow(quarter),
        "JVP, 75 % r < t": MeanFlow(SortedPairs(LogitNormal(2.0, 2.0), 0.25)),
    }
    steps: dict[str, Callable[[], Any]] = {"flow matching": _step(FlowMatching(), velocity)}
    return steps | {name: _step(objective, net) for name, objective in objectives.items()}


def _step(objective: Objective, net: nn.Module) -> Callable[[], Any]:
    generator = torch.Generator().manual_seed(0)
    x1: Tensor = torch.randn(BATCH, *SHAPE, generator=generator)

    def work() -> None:
        net.zero_grad(set_to_none=True)
        objective(Networks(net), Batch(x1), generator).mean().backward()

    return work


def _filled(net: Network) -> Network:
    torch.manual_seed(0)
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.02)
    return net.train()


if __name__ == "__main__":
    show(run())
