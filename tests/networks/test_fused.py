"""Products without a graph: the same numbers as torch's own, and the fused kernels only where nothing needs more."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from advect import NetSpec
from advect.derivatives import jvp
from advect.networks import DiT, LoRA, UNet, fused
from advect.networks.layers import Linear

SHAPE = (3, 16, 16)


@pytest.fixture
def fused_calls(monkeypatch):
    """The activations of the fused products that were run, with the least size taken away."""
    calls: list[str] = []
    kernel = torch.ops.mkldnn._linear_pointwise

    def counted(*arguments):
        calls.append(arguments[3])
        return kernel(*arguments)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    monkeypatch.setattr(fused, "_LEAST", 0)
    return calls


pytestmark = pytest.mark.skipif(not fused._AVAILABLE, reason="this torch has no oneDNN")


def filled(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.02, generator=generator)
    return network


@pytest.mark.parametrize("make", [DiT, UNet], ids=["DiT", "UNet"])
def test_a_network_says_the_same_with_and_without_a_graph(make, fused_calls):
    network = filled(make(NetSpec(SHAPE), "XXS" if make is DiT else "XS"))
    x, t = torch.randn(4, *SHAPE), torch.rand(4)
    with_graph = network(x, t)
    assert not fused_calls
    with torch.no_grad():
        without = network(x, t)
    assert len(fused_calls) > 5
    assert ("gelu" in fused_calls) == (make is DiT)
    torch.testing.assert_close(without, with_graph.detach(), rtol=1e-4, atol=1e-5)
    assert (without - without.mean()).abs().max() > 0.01


def test_forward_mode_takes_them_too_and_stays_exact(fused_calls):
    layer, x, w = Linear(24, 16), torch.randn(5, 24), torch.randn(5, 24)
    with torch.no_grad():
        value, slope = jvp(layer, (x,), (w,))
    assert fused_calls == ["none", "none"]
    torch.testing.assert_close(value, nn.functional.linear(x, layer.weight, layer.bias))
    torch.testing.assert_close(slope, nn.functional.linear(w, layer.weight))


def _double(layer, x):
    return layer.double()(x.double()).float()


def _autocast(layer, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    return out.float()


ELSEWHERE = {
    "gradients": lambda layer, x: torch.enable_grad()(layer)(x).detach(),
    "float64": _double,
    "autocast": _autocast,
    "vmap": lambda layer, x: torch.func.vmap(layer)(x),
    "jacobian": lambda layer, x: torch.func.jacrev(layer)(x[0]) @ x[0] + layer.bias,
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_they_are_left_out_where_more_is_asked_for(where, fused_calls):
    layer, x = Linear(24, 16), torch.randn(5, 24)
    wanted = nn.functional.linear(x, layer.weight, layer.bias).detach()
    with torch.no_grad():
        got = ELSEWHERE[where](layer, x)
    assert not fused_calls
    if where == "jacobian":
        wanted = wanted[0]
    torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)


def test_what_stands_around_a_layer_or_watches_it_is_not_passed_by(fused_calls):
    """Adapters add to the product, and a hook sees what the layer itself says."""
    network = filled(DiT(NetSpec(SHAPE), "XXS"))
    x, t = torch.randn(2, *SHAPE), torch.rand(2)
    seen: list[torch.Tensor] = []
    inner = network.blocks[0].feed[0]
    handle = inner.register_forward_hook(lambda module, given, out: seen.append(out.detach().clone()))
    with torch.no_grad():
        network(x, t)
    network(x, t)
    handle.remove()
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-5)
    adapted = filled(LoRA(network, rank=2))
    with torch.no_grad():
        without = adapted(x, t)
    torch.testing.assert_close(without, adapted(x, t).detach(), rtol=1e-4, atol=1e-5)


BIASES = {
    "strided": lambda b: torch.stack([b, b + 9], -1)[:, 0],
    "expanded": lambda b: b[:1].expand(len(b)),
    "one for all": lambda b: b[:1],
    "negative view": lambda b: torch._neg_view(-b),
    "part of another": lambda b: torch.cat([b + 9, b])[len(b) :],
    "float64": lambda b: b.double(),
}


@pytest.mark.parametrize("kind", BIASES)
def test_biases_of_any_layout_are_added(kind, fused_calls):
    """The kernel reads a bias as if it were contiguous, whatever its strides."""
    x, weight, bias = torch.randn(5, 24), torch.randn(16, 24), BIASES[kind](torch.randn(16))
    with torch.no_grad():
        if kind == "float64":
            with pytest.raises(RuntimeError, match="same dtype"):
                fused.linear(x, weight, bias)
        else:
            torch.testing.assert_close(fused.linear(x, weight, bias), x @ weight.T + bias)
            torch.testing.assert_close(fused.linear(x, weight.T.contiguous().T, bias), x @ weight.T + bias)


def test_a_feed_forward_that_was_changed_is_what_it_was_changed_to(fused_calls):
    network = filled(DiT(NetSpec(SHAPE), "XXS"))
    x, t = torch.randn(2, *SHAPE), torch.rand(2)
    before, seen = network(x, t).detach(), []

    def look(module, *_):
        seen.append(module)

    gelu = network.blocks[0].feed[1]
    for watch in (gelu.register_forward_hook, nn.modules.module.register_module_forward_hook):
        handle = watch(look)
        with torch.no_grad():
            network(x, t)
        handle.remove()
        assert gelu in seen
        seen.clear()
    for activation in (nn.ReLU(), nn.Sequential(nn.GELU(), nn.Tanh())):
        network.blocks[0].feed[1] = activation
        with torch.no_grad():
            without = network(x, t)
        torch.testing.assert_close(without, network(x, t).detach(), rtol=1e-4, atol=1e-5)
        assert (without - before).abs().max() > 1e-3
    network.blocks[0].feed.append(nn.Tanh())
    with torch.no_grad():
        without = network(x, t)
    torch.testing.assert_close(without, network(x, t).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("make", [DiT, UNet], ids=["DiT", "UNet"])
def test_who_counts_or_traces_operations_sees_those_of_torch(make, fused_calls):
    network = filled(make(NetSpec(SHAPE), "XXS" if make is DiT else "XS"))
    x, t = torch.randn(2, *SHAPE), torch.rand(2)
    with FlopCounterMode(display=False) as counter:
        network(x, t)
    with torch.no_grad(), FlopCounterMode(display=False) as without:
        network(x, t)
    assert without.get_total_flops() == counter.get_total_flops() > 0
    with torch.no_grad():
        traced = torch.jit.trace(network, (x, t), check_trace=False)
        assert not fused_calls
        torch.testing.assert_close(traced(x, t), network(x, t), rtol=1e-4, atol=1e-5)


def test_a_u_net_works_pixel_by_pixel_and_answers_as_it_was_asked():
    network = filled(UNet(NetSpec(SHAPE), "XS"))
    x, t = torch.randn(2, *SHAPE), torch.rand(2)
    out, seen = network(x, t, features=network.feature_names)
    assert out.is_contiguous()
    assert all(h.is_contiguous(memory_format=torch.channels_last) for h in seen.values())
    last = network(x.contiguous(memory_format=torch.channels_last), t)
    assert last.is_contiguous()
    assert torch.equal(last, out)


def test_small_products_are_not_worth_the_call(fused_calls, monkeypatch):
    monkeypatch.setattr(fused, "_LEAST", 2**22)
    with torch.no_grad():
        Linear(64, 64)(torch.randn(256, 64))
    assert not fused_calls
    with torch.no_grad():
        Linear(256, 256)(torch.randn(256, 256))
    assert fused_calls == ["none"]
