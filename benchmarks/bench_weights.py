"""A training step on weighted pairs and on exactly paired batches, over a step on independent pairs.

A step is drawing x0, pairing, loss, gradient and update by Adam: in 2-D of three layers of 96, for 1x28x28 of two
layers of 512, both small, so that the pairing shows. Weights are at kappa = 1 (2-D) and eps = 5 (1x28x28).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advect import NetSpec, Transport
from advect.couplings import Coupling, GibbsWeights, Independent, MinibatchOT
from advect.data import EightGaussians
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.objectives.bare_step import training_step
from benchmarks.common import Row, measure, show

GOAL = 1.05
REASONS = {
    ("batch 256 of 2", "weighted"): "a step of this small network takes .86 ms, and weight and weighted loss are nine"
    " operations more, of some 5 us each",
}
WIDTHS = {(2,): (96, 96, 96), (1, 28, 28): (512, 512)}


def run() -> list[Row]:
    """Both shapes at three batch sizes."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    for shape in WIDTHS:
        for batch in (256, 1024, 4096):
            rows += _case(shape, batch)
    return rows


def _case(shape: tuple[int, ...], batch: int) -> list[Row]:
    generator = torch.Generator().manual_seed(batch)
    x1 = (
        EightGaussians().draw(batch, generator)
        if shape == (2,)
        else 2 * torch.rand(batch, *shape, generator=generator) - 1
    )
    weights = GibbsWeights(kappa=1.0) if shape == (2,) else GibbsWeights(eps=5.0)
    weights.fit(torch.randn(x1.shape, generator=generator), x1, generator=generator)
    couplings = {"independent": Independent(), "weighted": weights, "exact transport": MinibatchOT()}
    return measure(
        "weights",
        f"batch {batch} of {'x'.join(map(str, shape))}",
        {name: _step(x1, coupling, WIDTHS[shape]) for name, coupling in couplings.items()},
        reference="independent",
        goals={"weighted": GOAL},
        per="step",
        rounds=40 if batch < 4096 else 9,
    )


def _step(x1: Tensor, coupling: Coupling, hidden: tuple[int, ...]) -> Callable[[], None]:
    network = MLP(NetSpec(tuple(x1.shape[1:])), hidden=hidden)
    return training_step(network, FlowMatching(), Transport(coupling=coupling), x1)


if __name__ == "__main__":
    show(run())
