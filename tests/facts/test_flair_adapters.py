"""FLAIR's fact 9: transformers of published pipelines as fields. Velocities, packing, noise levels, types.

Tiny random transformers: what is checked is plumbing, and each wrong form of it is shown to be another number.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))

import tiny

from advect.adapters import (
    SD3,
    Flux,
    PipelineField,
    QwenImage,
    SchedulerGrid,
    Wan,
    dynamic_shift,
    grid_of,
    pack,
    unpack,
)
from advect.errors import InputError
from advect.fields import Run, bind
from advect.guidance import CFG, Guided
from advect.networks import NetSpec
from advect.solvers import Euler
from advect.times import ShiftedGrid

B, T = 2, 0.3


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_hand_packed(x):
    """2x2 blocks as tokens, written out with loops: channel slowest, then row, then column of the block."""
    b, c, h, w = x.shape
    tokens = torch.zeros(b, h * w // 4, 4 * c)
    for i in range(h // 2):
        for j in range(w // 2):
            block = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            tokens[:, i * (w // 2) + j] = block.reshape(b, 4 * c)
    return tokens


def by_hand_unpacked(tokens, h, w):
    b, _, c = tokens.shape
    x = torch.zeros(b, c // 4, h, w)
    for i in range(h // 2):
        for j in range(w // 2):
            x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = tokens[:, i * (w // 2) + j].reshape(b, c // 4, 2, 2)
    return x


def other_order(x):
    """The other packing: row and column in the block slowest, channel fastest."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, h * w // 4, 4 * c)


def ids(h, w):
    return torch.tensor([[0.0, i, j] for i in range(h // 2) for j in range(w // 2)])


def _sd3():
    told = {"encoder_hidden_states": draw(B, 5, 32, seed=1), "pooled_projections": draw(B, 64, seed=2)}

    def raw(net, x, time, packed=None):
        return net(hidden_states=x, timestep=time, return_dict=False, **told)[0]

    return tiny.sd3_transformer(), SD3(), (4, 8, 6), told, raw, 1000.0


def _flux(guided=False):
    told = {"encoder_hidden_states": draw(B, 5, 32, seed=1), "pooled_projections": draw(B, 32, seed=2)}

    def raw(net, x, time, packed=by_hand_packed):
        out = net(
            hidden_states=packed(x),
            timestep=time,
            guidance=torch.full((B,), 2.5) if guided else None,
            txt_ids=torch.zeros(5, 3),
            img_ids=ids(*x.shape[-2:]),
            return_dict=False,
            **told,
        )[0]
        return by_hand_unpacked(out, *x.shape[-2:])

    return tiny.flux_transformer(guidance_embeds=guided), Flux(guidance=2.5), (4, 8, 6), told, raw, 1.0


def _wan():
    told = {"encoder_hidden_states": draw(B, 5, 32, seed=1)}

    def raw(net, x, time, packed=None):
        return net(hidden_states=x, timestep=time, return_dict=False, **told)[0]

    return tiny.wan_transformer(), Wan(), (16, 3, 4, 6), told, raw, 1000.0


def _wan_per_token():
    told = {"encoder_hidden_states": draw(B, 5, 32, seed=1)}

    def raw(net, x, time, packed=None):
        return net(hidden_states=x, timestep=torch.stack([time] * (3 * 2 * 3), 1), return_dict=False, **told)[0]

    return tiny.wan_transformer(), Wan(per_token=True), (16, 3, 4, 6), told, raw, 1000.0


def _wan_first_frame():
    told = {
        "encoder_hidden_states": draw(B, 5, 32, seed=1),
        "encoder_hidden_states_image": draw(B, 4, 12, seed=3),
    }
    channels = draw(B, 20, 3, 4, 6, seed=2)

    def raw(net, x, time, packed=None):
        return net(hidden_states=torch.cat([x, channels], 1), timestep=time, return_dict=False, **told)[0]

    net = tiny.wan_transformer(in_channels=36, image_dim=12)
    return net, Wan(), (16, 3, 4, 6), told | {"channels": channels}, raw, 1000.0


def _qwen():
    mask = torch.ones(B, 5, dtype=torch.long)
    mask[1, 3:] = 0
    told = {"encoder_hidden_states": draw(B, 5, 16, seed=1), "encoder_hidden_states_mask": mask}

    def raw(net, x, time, packed=by_hand_packed):
        h, w = x.shape[-2:]
        shapes = [[(1, h // 2, w // 2)]] * B
        out = net(hidden_states=packed(x), timestep=time, img_shapes=shapes, return_dict=False, **told)[0]
        return by_hand_unpacked(out, h, w)

    return tiny.qwen_transformer(), QwenImage(), (4, 8, 6), told, raw, 1.0


CASES = {
    "sd3": _sd3,
    "flux": _flux,
    "flux-guided": lambda: _flux(True),
    "wan": _wan,
    "wan-per-token": _wan_per_token,
    "wan-first-frame": _wan_first_frame,
    "qwen": _qwen,
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    torch.manual_seed(0)
    net, backend, shape, told, raw, unit = CASES[request.param]()
    return PipelineField(NetSpec(shape), net, backend), net, draw(B, *shape), told, raw, unit


# velocities


@torch.no_grad()
def test_fact_09_velocity_is_minus_the_transformer_to_the_bit(case):
    field, net, x, told, raw, unit = case
    for t in (torch.tensor(T), torch.tensor([0.05, 0.9])):
        time = unit * (1 - t.expand(B))
        assert torch.equal(field(x, t, **told), -raw(net, x, time))
    assert torch.equal(bind(field, Run(), **told)(x, T), field(x, torch.tensor(T), **told))


@torch.no_grad()
def test_fact_09_wrong_forms_are_other_numbers(case):
    field, net, x, told, raw, unit = case
    right, t = field(x, torch.tensor(T), **told), torch.full((B,), T)
    wrong = {
        "sign": raw(net, x, unit * (1 - t)),
        "time not turned round": -raw(net, x, unit * t),
        "time in the other unit": -raw(net, x, (1.0 if unit == 1000 else 1000.0) * (1 - t)),
    }
    if unit == 1.0:
        wrong["packed in the other order"] = -raw(net, x, 1 - t, other_order)
    for name, value in wrong.items():
        assert (value - right).abs().max() > 1e-3, name


@torch.no_grad()
def test_fact_09_the_embedded_scale_counts():
    net, _, shape, told, _, _ = _flux(True)
    one, other = (PipelineField(NetSpec(shape), net, Flux(guidance=g))(draw(B, *shape), T, **told) for g in (2.5, 3.5))
    assert (one - other).abs().max() > 1e-4


# packing


def test_fact_09_packing_is_undone_and_is_that_of_the_pipelines():
    from diffusers import FluxPipeline, QwenImagePipeline

    x = draw(B, 4, 8, 6)
    assert torch.equal(pack(x), by_hand_packed(x))
    assert torch.equal(unpack(pack(x), 8, 6), x)
    assert torch.equal(pack(x), FluxPipeline._pack_latents(x, B, 4, 8, 6))
    assert torch.equal(pack(x), QwenImagePipeline._pack_latents(x, B, 4, 8, 6))
    assert torch.equal(unpack(pack(x), 8, 6), FluxPipeline._unpack_latents(pack(x), 64, 48, 8))
    assert not torch.equal(pack(x), other_order(x))


# trajectories


def euler_scheduler(**options):
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


@torch.no_grad()
def test_fact_09_euler_is_the_schedulers_chain(case):
    field, net, x0, told, raw, unit = case
    scheduler = euler_scheduler(shift=3.0)
    scheduler.set_timesteps(6)
    x = x0
    for time in scheduler.timesteps:
        x = scheduler.step(raw(net, x, time.expand(B) * unit / 1000), time, x, return_dict=False)[0]
    ours = Euler()(bind(field, Run(), **told), x0, grid_of(scheduler, 6, 12, False))
    assert (ours - x).abs().max() < 1e-5
    uniform = Euler()(bind(field, Run(), **told), x0, 6)
    assert (uniform - x).abs().max() > 1e-4  # another grid is another end


# noise levels


def levels(scheduler, **options):
    scheduler.set_timesteps(**options)
    return scheduler.sigmas.tolist()


def test_fact_09_the_least_level_is_shifted_twice_unless_levels_are_passed():
    ten = levels(euler_scheduler(shift=3.0), num_inference_steps=10)
    assert ten[-3:] == pytest.approx([0.27805, 0.00893, 0.0], abs=1e-5)
    own = levels(euler_scheduler(shift=3.0), sigmas=np.linspace(1, 0.1, 10))
    assert own[-3:] == pytest.approx([0.42857, 0.25, 0.0], abs=1e-5)
    assert grid_of(euler_scheduler(shift=3.0), 10, 64, False).levels() == pytest.approx(ten, abs=1e-6)
    assert grid_of(euler_scheduler(shift=3.0), 10, 64, True).levels() == pytest.approx(own, abs=1e-6)
    assert [1 - t for t in ShiftedGrid(10, 3.0).times()] == pytest.approx(own, abs=1e-6)
    once = SchedulerGrid(10, 3.0, 0.001, True).levels()
    assert abs(once[-2] - ten[-2]) > 0.005


def test_fact_09_flux_shifts_by_the_picture():
    config = {"base_shift": 0.5, "max_shift": 1.15}
    assert math.log(dynamic_shift(256, config)) == pytest.approx(0.5)
    assert math.log(dynamic_shift(4096, config)) == pytest.approx(1.15)
    four = [0.90453, 0.75951, 0.51284]
    assert SchedulerGrid(4, math.exp(1.15)).levels()[1:4] == pytest.approx(four, abs=1e-5)
    scheduler = euler_scheduler(use_dynamic_shifting=True)
    diffusers = levels(scheduler, sigmas=np.linspace(1, 0.25, 4), mu=1.15)
    assert diffusers[1:4] == pytest.approx(four, abs=1e-5)
    assert grid_of(scheduler, 4, 4096, True).levels() == pytest.approx(diffusers, abs=1e-6)
    linear = euler_scheduler(use_dynamic_shifting=True, time_shift_type="linear")
    assert grid_of(linear, 4, 4096, True).levels() == pytest.approx(
        levels(linear, sigmas=np.linspace(1, 0.25, 4), mu=1.15), abs=1e-6
    )


def test_fact_09_qwen_stretches_to_its_last_level():
    scheduler = euler_scheduler(use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02)
    mu = 0.5 + 0.4 * (1024 - 256) / (8192 - 256)
    diffusers = levels(scheduler, sigmas=np.linspace(1, 1 / 8, 8), mu=mu)
    assert diffusers[-2] == pytest.approx(0.02, abs=1e-6)
    assert grid_of(scheduler, 8, 1024, True).levels() == pytest.approx(diffusers, abs=1e-6)
    assert abs(SchedulerGrid(8, math.exp(mu)).levels()[-2] - 0.02) > 0.05


def test_fact_09_wans_multistep_scheduler_truncates_its_times():
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    found = levels(scheduler, num_inference_steps=5)
    assert scheduler.timesteps.tolist() == [999, 952, 882, 769, 556]
    ours = grid_of(scheduler, 5, 64, False).levels()
    assert ours == pytest.approx(found, abs=2e-6)  # its first level is 1e-6 below 1
    assert [int(1000 * sigma) for sigma in ours[1:5]] == [952, 882, 769, 556]


def test_fact_09_explicit_timesteps_give_other_levels_than_they_say():
    scheduler = euler_scheduler(shift=3.0)
    scheduler.set_timesteps(timesteps=[1000.0, 500.0])
    assert scheduler.timesteps.tolist() == [1000.0, 500.0]
    assert scheduler.sigmas.tolist() == pytest.approx([1.0, 0.75, 0.0])  # not 0.5


# types, gradients, experts


def test_fact_09_states_stay_float32_and_parameters_get_no_gradient(case):
    field, net, x, told, _, _ = case
    x = x.clone().requires_grad_()
    field(x, T, **told).square().sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


@torch.no_grad()
def test_fact_09_a_half_precision_transformer_keeps_float32_states():
    net, backend, shape, told, _, _ = _sd3()
    x, exact = draw(B, *shape), PipelineField(NetSpec(shape), net, backend)(draw(B, *shape), T, **told)
    half = PipelineField(NetSpec(shape), net.to(torch.bfloat16), backend)
    out = half(x, T, **told)
    assert out.dtype == torch.float32
    assert 0 < (out - exact).abs().max() < 0.1
    told = {name: value.to(torch.bfloat16) for name, value in told.items()}
    time = torch.full((B,), 1000 * (1 - T))  # float32 up to the transformer: 700 would be 700 or 704 in bfloat16
    by_hand = -net(hidden_states=x.to(torch.bfloat16), timestep=time, return_dict=False, **told)[0].float()
    assert torch.equal(out, by_hand)
    states = Euler()(bind(half, Run(), **told), x, 3, record=True).states
    assert states.dtype == torch.float32
    assert not torch.equal(states[-1], states[-1].to(torch.bfloat16).float())


@torch.no_grad()
def test_fact_09_two_experts_share_the_times_at_the_boundary():
    net, backend, shape, told, raw, _ = _wan()
    torch.manual_seed(1)
    late = tiny.wan_transformer()
    field = PipelineField(NetSpec(shape), net, backend, low_noise=late, boundary=0.875)
    x = draw(B, *shape)
    for t, expert in ((0.0, net), (0.12, net), (0.125, net), (0.13, late), (1.0, late)):
        time = 1000 * (1 - torch.full((B,), t))
        assert torch.equal(field(x, torch.tensor(t), **told), -raw(expert, x, time))
        assert torch.equal(bind(field, Run(), **told)(x, t), -raw(expert, x, time))
    t = torch.tensor([0.1, 0.9])
    mixed = torch.cat([-raw(net, x, 1000 * (1 - t))[:1], -raw(late, x, 1000 * (1 - t))[1:]])
    assert (field(x, t, **told) - mixed).abs().max() < 1e-6
    with pytest.raises(InputError, match="goes with a second transformer"):
        PipelineField(NetSpec(shape), net, backend, boundary=0.875)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_fact_09_everything_is_made_where_the_state_is(name):
    """On the device "meta", which no tensor of another device can be joined with; conditions come from the CPU."""
    net, backend, shape, told, _, _ = CASES[name]()
    net.to("meta")
    x = torch.empty(B, *shape, device="meta")
    for t in (T, torch.rand(B, device="meta")):
        assert PipelineField(NetSpec(shape), net, backend)(x, t, **told).device == x.device


# refusals


def test_fact_09_refusals(case):
    field, _, x, told, _, _ = case
    with pytest.raises(InputError, match="one time per sample"):
        field(x, torch.rand(B, 3), **told)
    with pytest.raises(InputError, match="takes states"):
        field(x[..., 1:], T, **told)
    with pytest.raises(InputError, match="takes states"):
        field(x[:, 1:], T, **told)
    with pytest.raises(InputError, match=r"is told \[\], and encoder_hidden_states"):
        field(x, T)
    with pytest.raises(InputError, match=r"is told \['label'\], but takes"):
        field(x, T, label=torch.zeros(B), **told)
    with pytest.raises(InputError, match="no condition is called 'encoder_hidden_states'"):  # what is their null?
        Guided(field, CFG(3.0))(x, T, **told)
    with pytest.raises(InputError, match="no text encoders"):
        field.tell("a red cube")
