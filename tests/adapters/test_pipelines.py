"""Whole tiny pipelines as flows give the numbers of the pipelines themselves."""

from __future__ import annotations

import pytest
import tiny
import torch
from published import SIZES, STEPS, noise, published, told

from advect import Run
from advect.adapters import LatentCodec, from_pipeline
from advect.guidance import CFG, Guided, Interval, TokenRescale


@pytest.mark.parametrize("guided", [False, True])
def test_latents_are_those_of_the_pipeline(made, guided):
    name, pipe, flow = made
    rule = TokenRescale(CFG(3.0)) if name == "qwen" else CFG(3.0)
    run = Run()
    states = flow.sample(2, x0=noise(flow), guidance=rule if guided else (), record=True, run=run, **told(flow)).states
    expected = published(name, pipe, flow, guided)
    assert (states[-1] - expected).abs().max() < 1e-4
    assert run.calls == {"model": STEPS}
    assert run.rows == {"model": STEPS * (4 if guided else 2)}
    if guided:  # the rule and the negative text both count
        plain = flow.sample(2, x0=noise(flow), prompt=["a red cube", "two dogs"], record=True).states[-1]
        assert (plain - expected).abs().max() > 1e-3


def test_pictures_are_those_of_the_pipeline(made):
    name, pipe, flow = made
    x = flow.sample(2, x0=noise(flow), prompt=["a red cube", "two dogs"])
    found = (x / 2 + 0.5).clamp(0, 1)
    if name == "wan":
        found = found.transpose(1, 2)  # the pipeline gives frames first
    assert (found - published(name, pipe, flow, False, "pt")).abs().max() < 1e-4


@torch.no_grad()
def test_the_pair_as_one_batch_or_in_two_passes(made):
    """Texts of different lengths: one batch pads the shorter one, which must not count."""
    _, _, flow = made
    cond = flow.network.tell("a red cube", negative="blurry, dark and much longer than what is asked for")
    given = flow.told(2, cond)
    one, two = (
        Guided(flow.network, CFG(3.0), flow.conditions, batched=batched).bind(Run(), **given)(noise(flow), 0.4)
        for batched in (True, False)
    )
    assert (one - two).abs().max() < 1e-5
    plain = flow.network(noise(flow), torch.tensor(0.4), **given)
    assert (one - plain).abs().max() > 1e-4


@torch.no_grad()
def test_the_codec_is_the_pipelines(made):
    name, pipe, flow = made
    codec, vae = flow.codec, pipe.vae
    height, width, frames = SIZES[name]
    x = torch.rand(3, 3, *([frames] if frames else []), height, width) * 2 - 1
    z = codec.encode(x)
    assert tuple(z.shape[1:]) == flow.shape == codec.latent_shape(tuple(x.shape[1:]))
    assert codec.data_shape(flow.shape) == tuple(x.shape[1:]) == tuple(codec.decode(z).shape[1:])
    raw = vae.encode(x[:, :, None] if name == "qwen" else x).latent_dist
    if name in ("sd3", "flux"):
        shift, scale = vae.config.shift_factor, 1 / vae.config.scaling_factor
    else:
        shift, scale = (
            torch.tensor(v).reshape(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std)
        )
    by_hand = (raw.mode() - shift) / scale
    assert (z - by_hand.reshape(z.shape)).abs().max() < 1e-4
    back = vae.decode(raw.mode(), return_dict=False)[0]
    assert (codec.decode(z) - back.reshape(x.shape)).abs().max() < 1e-4
    by_twos = LatentCodec(vae, codec.layout.patch, codec.layout.frames, rows=2)
    assert (by_twos.decode(z) - codec.decode(z)).abs().max() < 1e-5
    assert (by_twos.encode(x) - z).abs().max() < 1e-5
    drawn = LatentCodec(vae, codec.layout.patch, codec.layout.frames, posterior="sample")
    first, again, other = (drawn.encode(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    spread = torch.stack([drawn.encode(x[:1], torch.Generator().manual_seed(seed)) for seed in range(64)]).std(0)
    wanted = (raw.std[:1] / scale).reshape(spread.shape)
    assert (spread / wanted).mean() == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_a_tiny_autoencoder_in_the_place_of_the_pipelines():
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), latent_channels=4,
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    ).eval()  # fmt: skip
    codec, x = LatentCodec(vae, posterior="sample"), torch.rand(2, 3, 16, 16) * 2 - 1
    z = codec.encode(x)
    assert tuple(z.shape) == (2, *codec.latent_shape((3, 16, 16)))
    assert (z - vae.encode(x).latents).abs().max() < 1e-6  # it has no posterior: nothing is drawn
    assert (codec.decode(z) - vae.decode(z).sample).abs().max() < 1e-6


def test_wan_with_two_experts_and_two_scales(tmp_path):
    torch.manual_seed(7)
    pipe = tiny.wan(tmp_path, transformer_2=tiny.wan_transformer(), boundary_ratio=0.9)
    pipe.set_progress_bar_config(disable=True)
    flow = from_pipeline(pipe, 32, 32, 5, steps=STEPS)

    def last(flow, rules):
        return flow.sample(2, x0=noise(flow), guidance=rules, record=True, **told(flow)).states[-1]

    assert (last(flow, CFG(3.0)) - published("wan", pipe, flow, True)).abs().max() < 1e-4
    two = last(flow, (Interval(CFG(3.0), 0, 0.1), Interval(CFG(1.5), 0.1001, 1)))
    assert (two - published("wan", pipe, flow, True, guidance_scale_2=1.5)).abs().max() < 1e-4
    one = from_pipeline(tiny.wan(tmp_path), 32, 32, 5, steps=STEPS)
    others = [last(flow, CFG(3.0)), two, last(one, CFG(3.0))]
    assert min((others[i] - others[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-4


def test_each_row_has_its_own_expert_and_times_keep_their_digits(tmp_path):
    torch.manual_seed(7)
    pipe = tiny.wan(tmp_path, transformer_2=tiny.wan_transformer(), boundary_ratio=0.9)
    flow = from_pipeline(pipe, 32, 32, 5, steps=STEPS)
    x, t = noise(flow), torch.tensor([0.0999, 0.1003])  # which bfloat16 rounds to one side of the boundary
    both = flow.network(x, t, **told(flow))
    for row, expert in enumerate((pipe.transformer, pipe.transformer_2)):
        alone = told(flow)["prompt"][row : row + 1]
        cond = flow.network.told({"prompt": alone}, x)
        v = -expert(x[row : row + 1], timestep=1000 * (1 - t[row : row + 1]), return_dict=False, **cond)[0]
        assert (both[row : row + 1] - v).abs().max() < 1e-5
        assert (flow.network(x[row : row + 1], t[row], prompt=alone) - v).abs().max() < 1e-5
    half = flow.network(x.bfloat16(), t, **told(flow))
    assert torch.equal(half, flow.network(x.bfloat16().float(), t, **told(flow)).bfloat16())


def test_wan_with_a_time_for_each_token(tmp_path):
    pipe = tiny.wan(tmp_path, expand_timesteps=True)
    pipe.set_progress_bar_config(disable=True)
    flow = from_pipeline(pipe, 32, 32, 5, steps=STEPS)
    assert flow.network.backend.per_token
    states = flow.sample(2, x0=noise(flow), guidance=CFG(3.0), record=True, **told(flow)).states
    assert (states[-1] - published("wan", pipe, flow, True)).abs().max() < 1e-4
