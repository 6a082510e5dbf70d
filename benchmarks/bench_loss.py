"""Flow matching loss, forward and backward, of a one-parameter model at batch 256.

The reference is a loss written by hand: draw x0 and t, mix, regress x1 - x0, mean of squares. torchcfm and
flow_matching, where installed, stand with the lines their own examples use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advect.objectives import FlowMatching
from benchmarks.common import Row, measure, show

BATCH = 256
GOALS = {(2,): 1.03, (1, 28, 28): 0.92}


class OneParameter(nn.Module):
    """The cheapest model that has a gradient, so that the loss itself is what is timed."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.scale * x


def run() -> list[Row]:
    """Both shapes."""
    rows: list[Row] = []
    for shape, goal in GOALS.items():
        candidates = _candidates(shape)
        rows += measure(
            "loss",
            f"batch {BATCH} of {'x'.join(map(str, shape))}",
            candidates,
            reference="by hand",
            goals={"advect": goal},
            rounds=60,
        )
    return rows


def _candidates(shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    x1 = torch.randn(BATCH, *shape)
    model, ours = OneParameter(), FlowMatching()

    def by_hand() -> None:
        x0 = torch.randn_like(x1)
        t = torch.rand(BATCH)
        time = t.view(-1, *[1] * len(shape))
        x = time * x1 + (1 - time) * x0
        loss = (model(x, t) - (x1 - x0)).square().mean()
        loss.backward()

    def advect() -> None:
        ours(model, x1).mean().backward()

    candidates: dict[str, Callable[[], Any]] = {"by hand": by_hand, "advect": advect}
    for name, peer in (("torchcfm", _torchcfm), ("flow_matching", _flow_matching)):
        work = peer(model, x1)
        if work is not None:
            candidates[name] = work
    return candidates


def _torchcfm(model: nn.Module, x1: Tensor) -> Callable[[], Any] | None:
    try:
        matcher = importlib.import_module("torchcfm.conditional_flow_matching").ConditionalFlowMatcher(sigma=0.0)
    except ImportError:
        return None

    def work() -> None:
        t, x, u = matcher.sample_location_and_conditional_flow(torch.randn_like(x1), x1)
        torch.mean((model(x, t) - u) ** 2).backward()

    return work


def _flow_matching(model: nn.Module, x1: Tensor) -> Callable[[], Any] | None:
    try:
        path = importlib.import_module("flow_matching.path").CondOTProbPath()
    except ImportError:
        return None

    def work() -> None:
        sample = path.sample(x_0=torch.randn_like(x1), x_1=x1, t=torch.rand(len(x1)))
        torch.pow(model(sample.x_t, sample.t) - sample.dx_t, 2).mean().backward()

    return work


if __name__ == "__main__":
    show(run())
