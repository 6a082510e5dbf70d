"""Weights rounded after training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from advect import Flow, InputError, NetSpec
from advect.diagnostics import round_tensor, rounded
from advect.networks import MLP, UNet


def test_a_tensor_lies_on_its_levels_and_moves_by_half_a_level_at_most():
    w = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) + 0.7
    for bits in (1, 4, 8):
        out = round_tensor(w, bits)
        unit = (w.max() - w.min()) / (2**bits - 1)
        assert out.unique().numel() <= 2**bits
        assert (out - w).abs().max() <= unit / 2 * (1 + 1e-4)
        assert (out.min(), out.max()) == (w.min(), w.max())  # asymmetric: 0 need not be a level
    # the error of b bits is that of uniform rounding, and halves with every bit
    errors = [(round_tensor(w, bits) - w).std() for bits in (5, 6)]
    unit = (w.max() - w.min()) / 31
    assert float(errors[0]) == pytest.approx(float(unit) / 12**0.5, rel=0.05)
    assert float(errors[0] / errors[1]) == pytest.approx(2, rel=0.1)


def test_constant_tensors_and_many_bits_stay():
    assert torch.equal(round_tensor(torch.full((3, 3), 0.3), 4), torch.full((3, 3), 0.3))
    w = torch.randn(5, 5, dtype=torch.float64)
    torch.testing.assert_close(round_tensor(w, 40), w, rtol=0, atol=1e-10)


def test_only_weight_matrices_of_a_copy_are_rounded():
    net = UNet(NetSpec((1, 8, 8)), size="XS")
    before = {name: value.clone() for name, value in net.named_parameters()}
    out, names = rounded(net, 3)
    changed = {name for name, value in out.named_parameters() if not torch.equal(value, before[name])}
    assert changed <= set(names)
    assert all(name.endswith("weight") and before[name].ndim >= 2 for name in names)
    assert all(torch.equal(value, before[name]) for name, value in net.named_parameters())


def test_of_a_flow_and_with_layers_left_alone():
    flow = Flow(MLP(NetSpec((4,)), size="XS"))
    out, names = rounded(flow, 4, skip=("head",))
    assert isinstance(out, Flow)
    assert names == ["network.layers.0.weight", "network.layers.1.weight"]
    assert torch.equal(out.network.head.weight, flow.network.head.weight)
    assert rounded(flow, 4, names=["network.head.bias"])[1] == ["network.head.bias"]
    assert out.sample(3, seed=0).shape == (3, 4)


def test_what_cannot_be_rounded_is_said():
    net = nn.Linear(2, 2)
    with pytest.raises(InputError, match="bits is 0"):
        rounded(net, 0)
    with pytest.raises(InputError, match=r"names holds 'wieght', but the parameters are weight, bias"):
        rounded(net, 4, names=["wieght"])
    with pytest.raises(InputError, match="no weight is left to round"):
        rounded(net, 4, skip=["."])
