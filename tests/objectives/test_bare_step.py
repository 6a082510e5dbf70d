"""The bare step that is timed does train, and draws as many samples as it says."""

from __future__ import annotations

import pytest
import torch

from advect import NetSpec, Transport
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.objectives.bare_step import training_step


@pytest.mark.parametrize(("batch_size", "rows"), [(None, 20), (8, 8)])
def test_a_step_changes_the_weights_and_takes_its_rows(batch_size, rows):
    seen = []

    class Watched(MLP):
        def forward(self, x, *times, **more):
            seen.append(len(x))
            return super().forward(x, *times, **more)

    network = Watched(NetSpec((2,)), hidden=(8,))
    before = [p.detach().clone() for p in network.parameters()]
    training_step(network, FlowMatching(), Transport(), torch.randn(20, 2), batch_size)()
    assert seen == [rows]
    assert all(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
