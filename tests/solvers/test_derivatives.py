"""Directional derivatives and divergences against full Jacobians."""

from __future__ import annotations

import pytest
import torch

from advect.derivatives import central_difference, divergence, draw_probe, hutchinson, jvp
from advect.errors import InputError
from advect.networks import DiT, NetSpec

X = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NET = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Linear(6, 9), torch.nn.SiLU(), torch.nn.Linear(9, 6), torch.nn.Unflatten(1, (2, 3))
).double()


def jacobians(f):
    return torch.stack([torch.autograd.functional.jacobian(lambda y: f(y[None])[0], x).reshape(6, 6) for x in X])


def test_jvp_and_central_difference():
    w = torch.randn_like(X)
    value, slope = jvp(NET, (X,), (w,))
    assert torch.equal(value, NET(X))
    exact = torch.einsum("bij,bj->bi", jacobians(NET), w.flatten(1)).view_as(X)
    assert (slope - exact).abs().max() < 1e-12
    assert (central_difference(NET, (X,), (w,)) - exact).abs().max() < 1e-9
    errors = [(central_difference(NET, (X,), (w,), h) - exact).abs().max().item() for h in (1e-2, 5e-3)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.05)


def test_jvp_of_several_arguments():
    f = lambda x, r, t: x * t[:, None] ** 2 + r[:, None]  # noqa: E731
    r, t = torch.rand(4), torch.rand(4)
    x, w = torch.randn(4, 3), torch.randn(4, 3)
    _, slope = jvp(f, (x, r, t), (w, torch.ones(4), torch.ones(4)))
    assert torch.allclose(slope, w * t[:, None] ** 2 + 1 + 2 * x * t[:, None])
    assert (central_difference(f, (x, r, t), (w, torch.ones(4), torch.ones(4))) - slope).abs().max() < 1e-3


@pytest.mark.parametrize("grad", [True, False])
def test_divergence(grad):
    with torch.set_grad_enabled(grad):
        value, div = divergence(NET, X)
    assert torch.equal(value, NET(X))
    assert (div - jacobians(NET).diagonal(dim1=1, dim2=2).sum(1)).abs().max() < 1e-12
    assert value.requires_grad == div.requires_grad == grad


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_hutchinson_is_the_quadratic_form_and_unbiased(kind):
    probe = draw_probe(X, kind, torch.Generator().manual_seed(0))
    value, estimate = hutchinson(NET, X, probe)
    e = probe.flatten(1)
    assert torch.equal(value, NET(X))
    assert (estimate - torch.einsum("bi,bij,bj->b", e, jacobians(NET), e)).abs().max() < 1e-12
    many = draw_probe(X[:1].expand(20_000, 2, 3), kind, torch.Generator().manual_seed(1))
    with torch.no_grad():
        draws = hutchinson(NET, X[:1].expand(20_000, 2, 3), many)[1]
    exact = jacobians(NET)[0].trace()
    assert abs(draws.mean() - exact) < 4 * draws.std() / 20_000**0.5
    if kind == "rademacher":
        assert (many.abs() == 1).all()
        assert abs(many.mean()) < 0.02


@pytest.mark.parametrize("field", [lambda x: torch.ones_like(x), lambda x: torch.ones_like(x) * NET[1].bias[0]])
def test_a_field_that_does_not_see_x_has_no_divergence(field):
    assert (divergence(field, X)[1] == 0).all()
    assert (hutchinson(field, X, draw_probe(X))[1] == 0).all()


def test_inference_mode_is_refused_rather_than_answered_with_zero():
    with torch.inference_mode():
        for take in (lambda: divergence(NET, X), lambda: hutchinson(NET, X, torch.ones_like(X))):
            with pytest.raises(InputError, match=r"use torch\.no_grad"):
                take()


@pytest.mark.parametrize("exact", [True, False])
def test_gradients_flow_through_a_divergence_of_attention(exact: bool) -> None:
    """Fused attention has no second derivative; the divergence takes the kernel that has one."""
    torch.manual_seed(0)
    net = DiT(NetSpec((1, 4, 4)), size="XXS", patch=2).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    x, t = torch.randn(2, 1, 4, 4, dtype=torch.float64), torch.full((2,), 0.4, dtype=torch.float64)
    weight = net.blocks[0].attention.qkv.weight  # pyright: ignore

    def total() -> torch.Tensor:
        f = lambda y: net(y, t)  # noqa: E731
        return (divergence(f, x) if exact else hutchinson(f, x, torch.ones_like(x)))[1].sum()

    gradient = torch.autograd.grad(total(), weight)[0]
    direction, h = torch.randn_like(weight), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(direction, alpha=sign * h)
            values.append(float(total()))
            weight.sub_(direction, alpha=sign * h)
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("exact", [True, False])
def test_no_graph_is_kept_where_nothing_wants_gradients(exact: bool) -> None:
    """A closed-form field has no parameters: with gradients on, a long solve must not keep every step's graph."""
    field = lambda y: torch.sin(3 * y)  # noqa: E731
    probe = torch.ones_like(X)
    v, div = divergence(field, X) if exact else hutchinson(field, X, probe)
    assert not v.requires_grad
    assert not div.requires_grad
    watched = X.clone().requires_grad_()
    v, div = divergence(field, watched) if exact else hutchinson(field, watched, probe)
    expected = -9 * torch.sin(3 * X)
    torch.testing.assert_close(torch.autograd.grad(div.sum(), watched)[0], expected)
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    scaled = lambda y: scale * y  # noqa: E731
    _, div = divergence(scaled, X) if exact else hutchinson(scaled, X, probe)
    assert float(torch.autograd.grad(div.sum(), scale)[0]) == pytest.approx(X.numel())
