"""Laws that every network keeps."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch
from torch import Tensor, nn

from advect import FlowMap, InputError, NetSpec
from advect.conditions import ClassLabel, Vector
from advect.networks import MLP, DiT, Network, UNet
from advect.parts import build, config_of

SHAPE = (3, 8, 12)
CONDITIONS = (ClassLabel(5), Vector(4))
SMALL = {
    "MLP": lambda spec: MLP(spec, hidden=(24, 24)),
    "residual MLP": lambda spec: MLP(spec, hidden=(24, 24, 24), residual=True),
    "UNet": lambda spec: UNet(spec, width=16, multipliers=(1, 2), blocks=1, attention=(1,)),
    "DiT": lambda spec: DiT(spec, depth=2, width=32, heads=2),
}


def make(name: str, times: int = 1, conditions=CONDITIONS, dtype=torch.float64) -> Network:
    """A small network whose zero layers have been filled, so that every input matters."""
    torch.manual_seed(0)
    net = SMALL[name](NetSpec(SHAPE, conditions, times)).to(dtype)
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return net


def inputs(dtype=torch.float64, rows: int = 4) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(rows, *SHAPE, generator=g, dtype=dtype)
    t = torch.rand(rows, generator=g, dtype=dtype)
    return x, t, {"label": torch.arange(rows) % 5, "vector": torch.randn(rows, 4, generator=g, dtype=dtype)}


names = pytest.mark.parametrize("name", SMALL)


@names
def test_output_has_shape_and_type_of_x_and_rows_do_not_mix(name):
    net, (x, t, cond) = make(name), inputs()
    out = net(x, t, **cond)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    one = net(x[2:3], t[2:3], **{k: v[2:3] for k, v in cond.items()})
    torch.testing.assert_close(out[2:3], one, rtol=1e-12, atol=1e-12)


@names
def test_one_time_for_all_is_that_time_for_each(name):
    net, (x, _, cond) = make(name), inputs()
    t = torch.tensor(0.3, dtype=x.dtype)
    torch.testing.assert_close(net(x, t, **cond), net(x, t.expand(4), **cond), rtol=1e-12, atol=1e-12)


@names
def test_state_time_and_each_condition_matter(name):
    net, (x, t, cond) = make(name), inputs()
    out = net(x, t, **cond)
    changed = [
        net(x + 0.1, t, **cond),
        net(x, t + 0.1, **cond),
        net(x, t, **cond | {"label": (cond["label"] + 1) % 5}),
        net(x, t, **cond | {"vector": cond["vector"] + 0.1}),
    ]
    for other in changed:
        assert (other - out).abs().flatten(1).amax(1).min() > 1e-6


@names
def test_a_condition_that_is_not_given_is_null(name):
    net, (x, t, cond) = make(name), inputs()
    null = {c.name: c.null(cond[c.name]) for c in CONDITIONS}
    torch.testing.assert_close(net(x, t), net(x, t, **null), rtol=1e-12, atol=1e-12)
    only = net(x, t, label=cond["label"])
    torch.testing.assert_close(only, net(x, t, label=cond["label"], vector=null["vector"]), rtol=1e-12, atol=1e-12)


@names
def test_two_times_make_a_flow_map_and_one_does_not(name):
    field, flow_map = make(name), make(name, times=2)
    assert not isinstance(field, FlowMap)
    assert isinstance(flow_map, FlowMap)
    x, t, cond = inputs()
    r = 0.5 * t
    u = flow_map(x, r, t, **cond)
    assert (u - flow_map(x, r, t + 0.1, **cond)).abs().max() > 1e-6
    assert (u - flow_map(x, r + 0.1, t, **cond)).abs().max() > 1e-6
    torch.testing.assert_close(flow_map.velocity(x, t, **cond), flow_map(x, t, t, **cond))


@names
def test_a_copied_flow_map_asks_its_own_weights_for_the_velocity(name):
    net = make(name, times=2)
    other = copy.deepcopy(net)
    for p in net.parameters():
        nn.init.zeros_(p)
    x, t, cond = inputs()
    assert other.velocity(x, t, **cond).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["UNet", "DiT"])
def test_weights_of_a_field_give_a_flow_map_that_is_that_field(name):
    field = make(name)
    flow_map = SMALL[name](NetSpec(SHAPE, CONDITIONS, 2)).double()
    missing, unexpected = flow_map.load_state_dict(field.state_dict(), strict=False)
    assert not unexpected
    assert all(key.startswith("embed.times.1.") for key in missing)
    x, t, cond = inputs()
    torch.testing.assert_close(flow_map(x, t, t + 0.2, **cond), field(x, t, **cond), rtol=1e-12, atol=1e-12)


@names
def test_jvp_agrees_with_a_central_difference(name):
    net, (x, t, cond) = make(name, times=2), inputs()
    g = torch.Generator().manual_seed(2)
    dx = torch.randn(x.shape, generator=g, dtype=x.dtype)
    dt = torch.randn(t.shape, generator=g, dtype=t.dtype)
    r, h = 0.5 * t, 2e-5

    def f(x, t):
        return net(x, r, t, **cond)

    def central(h):
        return (f(x + h * dx, t + h * dt) - f(x - h * dx, t - h * dt)) / (2 * h)

    _, slope = torch.func.jvp(f, (x, t), (dx, dt))
    difference = (4 * central(h) - central(2 * h)) / 3  # fourth order: time frequencies of 100 are steep
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-6)


@names
def test_features_come_beside_the_same_output(name):
    net, (x, t, cond) = make(name), inputs()
    out, features = net(x, t, features=net.feature_names, **cond)
    torch.testing.assert_close(out, net(x, t, **cond))
    assert tuple(features) == net.feature_names
    assert all(f.shape[0] == 4 for f in features.values())
    with pytest.raises(InputError, match=r"features names 'nowhere', which this \w+ does not have: choose from"):
        net(x, t, features=("nowhere",))


@names
def test_features_pass_through_jvp_as_auxiliary_output(name):
    net, (x, t, cond) = make(name), inputs()
    wanted = net.feature_names[-1]
    _, _, features = torch.func.jvp(
        lambda x: net(x, t, features=(wanted,), **cond), (x,), (torch.ones_like(x),), has_aux=True
    )
    torch.testing.assert_close(features[wanted], net(x, t, features=(wanted,), **cond)[1][wanted])


@names
def test_half_precision_weights_keep_time_exact(name):
    net, (x, t, cond) = make(name, dtype=torch.float32), inputs(torch.float32)
    reference = net(x, t, **cond)
    low = copy.deepcopy(net).bfloat16()
    out = low(x, t, **cond)
    assert out.dtype == torch.float32
    error = (out - reference).abs().mean() / reference.abs().mean()
    assert error < 0.05
    rounded = low(x, t.bfloat16().float(), **cond)
    assert not torch.equal(out, rounded)  # the third digit of t still arrives


@names
def test_a_half_precision_state_does_not_round_time(name):
    net, (x, t, cond) = make(name, dtype=torch.float32), inputs(torch.float32)
    low = x.bfloat16()
    assert net(low, t, **cond).dtype == torch.bfloat16
    assert not torch.equal(net(low, t, **cond), net(low, t.bfloat16(), **cond))


@names
def test_autocast_answers_in_the_type_of_x(name):
    net, (x, t, cond) = make(name, dtype=torch.float32), inputs(torch.float32)
    reference = net(x, t, **cond)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x, t, **cond)
    assert out.dtype == torch.float32
    assert not torch.equal(out, reference)
    assert (out - reference).abs().mean() < 0.05 * reference.abs().mean()


@names
def test_float32_weights_answer_a_float64_state_in_float64(name):
    net, (x, t, cond) = make(name, dtype=torch.float32), inputs()
    assert net(x, t, **cond).dtype == torch.float64


@names
def test_config_rebuilds_the_network(name):
    net = make(name, times=2)
    again = build(config_of(net))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    assert again.spec == net.spec


@names
def test_wrong_calls_are_refused(name):
    net, (x, t, cond) = make(name), inputs()
    with pytest.raises(InputError, match=r"built for one time, f\(x, t\), but was called with 2: see NetSpec.times"):
        net(x, t, t, **cond)
    with pytest.raises(InputError, match="given the condition 'colour', but it knows label, vector"):
        net(x, t, colour=cond["label"])
    with pytest.raises(InputError, match="takes one time per sample"):
        net(x, t[:2], **cond)


@names
def test_one_seed_gives_one_network(name):
    first, second = (make(name).state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in (MLP, UNet, DiT) for n in k.sizes])
def test_documented_sizes_have_the_documented_parameters(kind, name):
    spec = NetSpec((2,) if kind is MLP else (3, 32, 32))
    with torch.device("meta"):
        net = kind(spec, size=name)
    row = re.search(rf"^\s*\| {name} \|.*\| ([\d,]+) \|$", kind.__doc__ or "", re.MULTILINE)
    assert row is not None
    assert sum(p.numel() for p in net.parameters()) == int(row[1].replace(",", ""))


@pytest.mark.parametrize("name", ["UNet", "DiT"])
def test_an_image_network_starts_at_zero(name):
    x, t, cond = inputs(torch.float32)
    assert SMALL[name](NetSpec(SHAPE, CONDITIONS))(x, t, **cond).abs().max() == 0


def test_sentences_on_sizes():
    with pytest.raises(InputError, match=r"x is 28 x 30, but a UNet of 4 levels .* multiples of 8: pad it by 4 rows"):
        UNet(NetSpec((1, 28, 30)), multipliers=(1, 2, 2, 2))
    net = UNet(NetSpec((1, 8, 8)), width=8, multipliers=(1, 1), blocks=1)
    assert net(torch.zeros(2, 1, 12, 6), torch.tensor(0.5)).shape == (2, 1, 12, 6)
    with pytest.raises(InputError, match="x is 7 x 8, but a UNet of 2 levels needs multiples of 2"):
        net(torch.zeros(2, 1, 7, 8), torch.tensor(0.5))
    with pytest.raises(InputError, match="x is 28 x 28, which patches of 8 do not tile: pad it by 4 rows and 4 "):
        DiT(NetSpec((1, 28, 28)), patch=8)
    with pytest.raises(InputError, match="width is 30 with 3 heads"):
        DiT(NetSpec((1, 8, 8)), width=30, heads=3)
    for kind, shape in itertools.product((UNet, DiT), ((2,), (4, 4))):
        with pytest.raises(InputError, match="takes images"):
            kind(NetSpec(shape))
    with pytest.raises(InputError, match="equal ones with residual=True"):
        MLP(NetSpec((2,)), hidden=(8, 16), residual=True)


def test_an_unconditional_network_takes_one_time_for_all():
    net = MLP(NetSpec((2,)), hidden=(8,))
    assert net(torch.zeros(5, 2), torch.tensor(0.1)).shape == (5, 2)


@names
def test_weights_of_a_field_start_a_flow_map_that_is_this_field_for_any_end(name):
    field, (x, r, cond) = make(name), inputs()
    flow_map = SMALL[name](NetSpec(SHAPE, CONDITIONS, times=2)).double()
    flow_map.load_state_dict(flow_map.from_field(field.state_dict()))
    v = field(x, r, **cond)
    for t in (r, torch.ones_like(r), (r + 1) / 2):
        torch.testing.assert_close(flow_map(x, r, t, **cond), v, rtol=1e-12, atol=1e-12)
    # what is new is trained: the end reaches the output as soon as a step is made
    flow_map(x, r, torch.ones_like(r), **cond).square().sum().backward()
    grown = {n: p for n, p in flow_map.named_parameters() if n not in field.state_dict() or n == "layers.0.weight"}
    assert any(p.grad is not None and p.grad.any() for p in grown.values())
    # weights of a flow map, and those of a field for a field, are left as they are
    for net in (flow_map, field):
        state = net.state_dict()
        again = net.from_field(state)
        assert again.keys() == state.keys()
        assert all(again[n] is state[n] for n in state)
