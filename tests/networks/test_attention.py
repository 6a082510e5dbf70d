"""Attention under every mode of differentiation, and gradient checkpointing."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from advect import NetSpec
from advect.networks import DiT, SelfAttention, UNet, attend
from advect.networks.layers import GroupNorm


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax_attention(q, k, v):
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v


@pytest.fixture
def layer() -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(16, heads=2).double()


def central(f, x, dx, h=1e-5):
    return (f(x + h * dx) - f(x - h * dx)) / (2 * h)


def test_value_is_softmax_attention():
    q, k, v = (tokens(2, 3, 5, 8, seed=i) for i in range(3))
    torch.testing.assert_close(attend(q, k, v), softmax_attention(q, k, v))


def test_fused_kernel_really_lacks_forward_mode():
    """The reason for the fall-back; when torch gains one, the fall-back can go."""
    q = tokens(2, 3, 5, 8)
    with pytest.raises((NotImplementedError, RuntimeError), match=r"[Ff]orward AD"):
        torch.func.jvp(lambda q: nn.functional.scaled_dot_product_attention(q, q, q), (q,), (q,))


def test_jvp_of_torch_func(layer):
    x, dx = tokens(2, 5, 16), tokens(2, 5, 16, seed=1)
    _, slope = torch.func.jvp(layer, (x,), (dx,))
    torch.testing.assert_close(slope, central(layer, x, dx), rtol=1e-6, atol=1e-6)


def test_dual_numbers_of_autograd(layer):
    x, dx = tokens(2, 5, 16), tokens(2, 5, 16, seed=1)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, dx))).tangent
    torch.testing.assert_close(slope, central(layer, x, dx), rtol=1e-6, atol=1e-6)


def test_jvp_under_vmap_and_vmap_under_jvp(layer):
    x, dx = tokens(2, 5, 16), tokens(3, 2, 5, 16, seed=1)
    slopes = torch.func.vmap(lambda d: torch.func.jvp(layer, (x,), (d,))[1])(dx)
    _, other = torch.func.jvp(torch.func.vmap(layer), (x.repeat(3, 1, 1, 1),), (dx,))
    for i in range(3):
        want = central(layer, x, dx[i])
        torch.testing.assert_close(slopes[i], want, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(other[i], want, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("error:There is a performance drop")
def test_gradient_per_sample_is_batched(layer):
    x = tokens(3, 5, 16)
    each = torch.func.vmap(torch.func.grad(lambda x: layer(x[None]).square().sum()))(x)
    whole = torch.func.grad(lambda x: layer(x).square().sum())(x)
    torch.testing.assert_close(each, whole)


def test_second_derivative_of_torch_func(layer):
    x, dx = tokens(1, 3, 16), tokens(1, 3, 16, seed=1)

    def slope(x):
        return torch.func.grad(lambda x: layer(x).square().sum())(x)

    got = torch.func.grad(lambda x: (slope(x) * dx).sum())(x)
    torch.testing.assert_close(got, central(slope, x, dx), rtol=1e-6, atol=1e-6)


def test_gradient_of_a_jvp_with_respect_to_weights(layer):
    x, dx = tokens(2, 5, 16), tokens(2, 5, 16, seed=1)
    torch.func.jvp(layer, (x,), (dx,))[1].square().sum().backward()
    weight = layer.qkv.weight
    got, h = weight.grad[3, 4].clone(), 1e-5

    def loss(delta):
        with torch.no_grad():
            weight[3, 4] += delta
            out = torch.func.jvp(layer, (x,), (dx,))[1].square().sum()
            weight[3, 4] -= delta
        return out

    torch.testing.assert_close(got, (loss(h) - loss(-h)) / (2 * h), rtol=1e-5, atol=1e-7)


def test_second_reverse_derivative_in_the_math_kernel(layer):
    """What the docstring tells those who need it."""
    x = tokens(1, 4, 16).requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (grad,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        grad.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


def test_one_message_names_the_layer(monkeypatch, caplog):
    import advect.networks.attention as module

    monkeypatch.setattr(module, "_told", False)
    net = DiT(NetSpec((1, 4, 4)), depth=3, width=16, heads=2)
    x, t = torch.zeros(2, 1, 4, 4), torch.tensor(0.5)
    with caplog.at_level(logging.WARNING, logger="advect"):
        net(x, t)
        assert not caplog.records
        for _ in range(2):
            torch.func.jvp(lambda x: net(x, t), (x,), (x,))
    assert len(caplog.records) == 1
    assert "DiT.blocks.0.attention runs under forward-mode differentiation" in caplog.text


def test_fused_kernel_is_used_without_forward_mode(monkeypatch):
    import advect.networks.attention as module

    seen = []
    monkeypatch.setattr(module, "sdpa_kernel", lambda backend: seen.append(backend) or sdpa_kernel(backend))
    q = tokens(1, 1, 3, 4)
    attend(q, q, q)
    assert not seen
    torch.func.jvp(lambda q: attend(q, q, q), (q,), (q,))
    assert seen == [SDPBackend.MATH]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [UNet, DiT])
def test_jvp_compiles_as_one_graph(kind):
    small = {"width": 16, "multipliers": (1, 2), "blocks": 1} if kind is UNet else {"depth": 1, "width": 16, "heads": 2}
    net = kind(NetSpec((1, 4, 4), times=2), **small)
    for p in net.parameters():
        nn.init.normal_(p, std=0.2)
    x, t = torch.randn(2, 1, 4, 4), torch.tensor([0.2, 0.7])

    def slope(x, t):
        return torch.func.jvp(lambda x, t: net(x, 0.5 * t, t), (x, t), (x, torch.ones_like(t)))[1]

    torch.testing.assert_close(torch.compile(slope, fullgraph=True)(x, t), slope(x, t), rtol=1e-4, atol=1e-5)


def test_group_norm_is_the_same_under_forward_mode():
    norm, x, dx = GroupNorm(12).double(), tokens(2, 12, 3, 5), tokens(2, 12, 3, 5, seed=1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    value, slope = torch.func.jvp(norm, (x,), (dx,))
    torch.testing.assert_close(value, norm(x))
    torch.testing.assert_close(slope, central(norm, x, dx), rtol=1e-6, atol=1e-6)


def gradients(kind, checkpointing: bool, small: dict) -> tuple[list[torch.Tensor], int]:
    torch.manual_seed(0)
    net = kind(NetSpec((2, 8, 8)), dropout=0.3, checkpointing=checkpointing, **small).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.1)
    x, t = tokens(3, 2, 8, 8), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    kept: set[int] = set()
    kept_bytes = 0

    def pack(tensor):
        nonlocal kept_bytes
        if tensor.untyped_storage().data_ptr() not in kept:
            kept.add(tensor.untyped_storage().data_ptr())
            kept_bytes += tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = net(x, t).square().mean()
    loss.backward()
    return [p.grad for p in net.parameters() if p.grad is not None], kept_bytes


@pytest.mark.parametrize(
    ("kind", "small"),
    [
        (UNet, {"width": 16, "multipliers": (1, 2), "blocks": 2, "attention": (1,)}),
        (DiT, {"depth": 3, "width": 32, "heads": 2}),
    ],
)
def test_checkpointing_keeps_less_and_gives_the_same_gradients(kind, small):
    plain, kept = gradients(kind, False, small)
    again, less = gradients(kind, True, small)
    assert less < 0.7 * kept
    assert len(plain) == len(again)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_checkpointing_steps_aside_under_forward_mode():
    net = DiT(NetSpec((1, 4, 4)), depth=1, width=16, heads=2, checkpointing=True)
    x, t = torch.randn(2, 1, 4, 4), torch.tensor(0.5)
    value, _ = torch.func.jvp(lambda x: net(x, t), (x,), (x,))
    (value.sum()).backward()
    assert net.tokens.weight.grad is not None
