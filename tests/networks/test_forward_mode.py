"""Forward-mode derivatives worked out by hand: the same numbers as torch's own, and less work."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import advect.networks.attention as attention
from advect import NetSpec
from advect.networks import MLP, DiT, SelfAttention, UNet, attend
from advect.networks.attention import KeyValues
from advect.networks.layers import Conv2d, GroupNorm, LayerNorm, Linear, moving, under_forward_ad_alone


def numbers(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def filled(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module


def by_hand(f, x, dx):
    with torch.no_grad():
        return torch.func.jvp(f, x, dx)


def by_torch(f, x, dx):
    """Gradients are on: nothing is worked out by hand."""
    with sdpa_kernel(SDPBackend.MATH):
        return torch.func.jvp(f, x, dx)


MASKS = {
    "none": lambda rows, n, m: None,
    "queries and keys": lambda rows, n, m: numbers(n, m, seed=9) > -0.5,
    "of each sample": lambda rows, n, m: numbers(rows, 1, n, m, seed=9) > -0.5,
    "a query that sees nothing": lambda rows, n, m: torch.arange(n)[:, None].expand(n, m) > 0,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scores", [2**18, 700, 200, 1])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-2)]
)
def test_attention_agrees_with_the_math_kernel(mask, scores, dtype, tolerance, monkeypatch):
    """In blocks of samples, of heads, of queries, and of one query."""
    monkeypatch.setitem(attention._SCORES, "cpu", scores)
    rows, heads, n, m, d = 3, 4, 7, 9, 8
    x, dx = (
        tuple(numbers(rows, heads, s, d, seed=i + j, dtype=dtype) for i, s in enumerate((n, m, m))) for j in (0, 3)
    )
    seen = MASKS[mask](rows, n, m)

    def f(q, k, v):
        return attend(q, k, v, mask=seen)

    for got, want in zip(by_hand(f, x, dx), by_torch(f, x, dx), strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def test_the_math_kernel_is_left_alone_where_the_closed_form_serves(monkeypatch):
    seen = []
    monkeypatch.setattr(attention, "sdpa_kernel", lambda backend: seen.append(backend) or sdpa_kernel(backend))
    q = numbers(1, 1, 3, 4)
    by_hand(lambda q: attend(q, q, q), (q,), (q,))
    assert not seen


def test_attention_where_only_some_move():
    q, k, v = (numbers(2, 2, 5, 8, seed=i) for i in range(3))
    for f in (lambda x: attend(x, k, v), lambda x: attend(q, x, v), lambda x: attend(q, k, x)):
        got, want = by_hand(f, (q,), (k,)), by_torch(f, (q,), (k,))
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_attention_to_kept_keys():
    layer = filled(SelfAttention(16, heads=2).double())
    x, dx = numbers(2, 6, 16), numbers(2, 6, 16, seed=1)

    def in_two(x):
        kept = KeyValues()
        causal = torch.ones(4, 4, dtype=torch.bool).tril()
        return torch.cat([layer(x[:, :4], causal, kept), layer(x[:, 4:5], None, kept), layer(x[:, 5:], None, kept)], 1)

    def at_once(x):
        return layer(x, torch.ones(6, 6, dtype=torch.bool).tril())

    got = by_hand(in_two, (x,), (dx,))
    for want in (by_hand(at_once, (x,), (dx,)), by_torch(at_once, (x,), (dx,))):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


LAYERS = {
    "Linear": (lambda: Linear(12, 5), (4, 3, 12)),
    "Linear without bias": (lambda: Linear(12, 5, bias=False), (4, 12)),
    "Conv2d": (lambda: Conv2d(12, 5, 3, padding=1), (2, 12, 5, 6)),
    "Conv2d with a stride": (
        lambda: Conv2d(12, 4, 3, stride=2, groups=2, padding_mode="circular", padding=1),
        (2, 12, 6, 6),
    ),
    "LayerNorm": (lambda: LayerNorm(12), (4, 3, 12)),
    "LayerNorm without weights": (lambda: LayerNorm((3, 12), elementwise_affine=False), (4, 3, 12)),
    "GroupNorm": (lambda: GroupNorm(12), (2, 12, 5, 6)),
    "GroupNorm of one length": (lambda: GroupNorm(12), (2, 12, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)]
)
def test_layers_agree_with_torch(name, dtype, tolerance):
    make, shape = LAYERS[name]
    layer = filled(make()).to(dtype)
    x, dx = (numbers(*shape, seed=i, dtype=dtype) for i in range(2))
    for got, want in zip(by_hand(layer, (x,), (dx,)), by_torch(layer, (x,), (dx,)), strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_for_strided_states(name):
    make, shape = LAYERS[name]
    layer = filled(make()).double()
    x, dx = (numbers(*reversed(shape), seed=i).permute(*reversed(range(len(shape)))) for i in range(2))
    torch.testing.assert_close(by_hand(layer, (x,), (dx,)), by_torch(layer, (x,), (dx,)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_that_move_count_too(name):
    make, shape = LAYERS[name]
    layer, x = filled(make()).double(), numbers(*shape)
    weights = {key: p.detach() for key, p in layer.named_parameters()}
    if not weights:
        return

    def f(x, weights):
        return torch.func.functional_call(layer, weights, (x,))

    changes = {key: numbers(*p.shape, seed=i) for i, (key, p) in enumerate(weights.items())}
    got = by_hand(f, (x, weights), (torch.ones_like(x), changes))
    torch.testing.assert_close(got, by_torch(f, (x, weights), (torch.ones_like(x), changes)), rtol=1e-12, atol=1e-12)


NETWORKS = {
    "UNet": lambda: UNet(NetSpec((2, 8, 8), times=2), width=16, multipliers=(1, 2), blocks=1, attention=(1,)),
    "DiT": lambda: DiT(NetSpec((2, 8, 8), times=2), depth=2, width=32, heads=2),
    "MLP": lambda: MLP(NetSpec((2, 8, 8), times=2), hidden=(32, 32), residual=True),
}


@pytest.fixture(params=NETWORKS)
def along(request):
    """A network u(x, r, t), where, and along what."""
    net = filled(NETWORKS[request.param]()).double()
    r, x = torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64), numbers(3, 2, 8, 8)
    return net, (x, r, r + 0.2), (numbers(3, 2, 8, 8, seed=1), torch.ones_like(r), torch.zeros_like(r))


def test_networks_agree_with_torch(along):
    torch.testing.assert_close(by_hand(*along), by_torch(*along), rtol=1e-10, atol=1e-10)


def test_dual_numbers_agree_with_torch(along):
    net, x, dx = along
    with torch.no_grad(), forward_ad.dual_level():
        got = forward_ad.unpack_dual(net(*map(forward_ad.make_dual, x, dx)))
    torch.testing.assert_close(tuple(got), by_torch(*along), rtol=1e-10, atol=1e-10)


def test_inference_mode_agrees_with_torch(along):
    net, x, dx = along
    with torch.inference_mode():
        got = torch.func.jvp(net, x, dx)
    torch.testing.assert_close(got, by_torch(*along), rtol=1e-10, atol=1e-10)


def test_a_batch_without_samples_has_a_derivative_without_samples(along):
    net, x, dx = along
    got = by_hand(net, tuple(v[:0] for v in x), tuple(v[:0] for v in dx))
    assert [tuple(v.shape) for v in got] == [(0, 2, 8, 8)] * 2


def test_autocast_is_left_to_torch():
    with torch.no_grad(), forward_ad.dual_level():
        x = forward_ad.make_dual(numbers(4, 12).float(), numbers(4, 12, seed=1).float())
        assert moving(x) is not None
        with torch.autocast("cpu", torch.bfloat16):
            assert moving(x) is None


def test_batched_transforms_are_left_to_torch(along):
    net, (x, r, t), (dx, dr, dt) = along

    def each(x, r, t):
        return torch.func.vmap(lambda x, r, t: net(x[None], r[None], t[None])[0])(x, r, t)

    want = by_torch(net, (x, r, t), (dx, dr, dt))
    got = by_hand(each, (x, r, t), (dx, dr, dt))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        slopes = torch.func.vmap(lambda d: torch.func.jvp(net, (x, r, t), (d, dr, dt))[1])(torch.stack([-dx, dx]))
    torch.testing.assert_close(slopes[1], want[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [lambda: SelfAttention(12, heads=2), *(make for make, _ in list(LAYERS.values())[:2])])
def test_second_forward_derivatives_are_left_to_torch(make):
    """Of networks they are not to be had: torch 2.13 has none of silu."""
    layer, x, dx = filled(make()).double(), numbers(4, 3, 12), numbers(4, 3, 12, seed=1)

    def f(x):
        return layer(x).square()

    def slope(x):
        return torch.func.jvp(f, (x,), (dx,))[1]

    got = by_hand(slope, (x,), (dx,))[1]
    h = 1e-5
    with torch.no_grad():
        want = (slope(x + h * dx) - slope(x - h * dx)) / (2 * h)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_a_derivative_costs_two_forward_passes_of_products(along):
    """Torch multiplies by the derivative of weights that have none as well: three passes."""
    net, x, dx = along
    costs = []
    for mode in (contextlib.nullcontext(), forward_ad.dual_level()):
        with torch.no_grad(), mode, FlopCounterMode(display=False) as counter:
            net(*(map(forward_ad.make_dual, x, dx) if costs else x))
        products = counter.get_flop_counts()["Global"]
        costs.append(sum(n for op, n in products.items() if "conv" in str(op) or str(op) in ("aten.addmm", "aten.mm")))
    assert costs[1] == 2 * costs[0]


def test_when_it_is_alone():
    told = []

    def f(x):
        told.append(under_forward_ad_alone())
        return x

    x = torch.ones(2)
    f(x)
    by_torch(f, (x,), (x,))
    by_hand(torch.func.vmap(f), (x,), (x,))
    by_hand(lambda x: torch.func.jvp(f, (x,), (x,))[1], (x,), (x,))
    by_hand(f, (x,), (x,))
    assert told == [False, False, False, False, True]
