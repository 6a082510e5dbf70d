"""What needs no pipeline: the grid of noise levels, prompts as bytes, shapes of the published sizes."""

from __future__ import annotations

import itertools

import pytest
import torch

from advect import Flow, Sampler
from advect.adapters import Prompt, SchedulerGrid
from advect.adapters.families import Wish, plan
from advect.conditions import Conditions
from advect.errors import InputError
from advect.networks import MLP, NetSpec
from advect.parts import build, config_of
from advect.solvers import Euler
from advect.times import ShiftedGrid, TimeGrid

GRIDS = [
    SchedulerGrid(),
    SchedulerGrid(10, 3.0, 0.002994, True),
    SchedulerGrid(5, 5.0, 0.001),
    SchedulerGrid(50, 1.9, terminal=0.02),
    SchedulerGrid(1, 0.5),
    SchedulerGrid(1, 3.0, 0.01, True),
]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_times_rise_from_noise_to_data(grid):
    times = grid.times()
    assert len(times) == grid.steps + 1
    assert (times[0], times[-1]) == (0.0, 1.0)
    assert all(a < b for a, b in itertools.pairwise(times))
    assert build(config_of(grid)) == grid
    assert len(grid.with_steps(7).times()) == 8


def test_the_members_of_the_family_that_have_a_name():
    assert SchedulerGrid(8, 1.0).times() == pytest.approx(TimeGrid(8).times(), abs=1e-15)
    assert SchedulerGrid(8, 3.0).times() == pytest.approx(ShiftedGrid(8, 3.0).times(), abs=1e-15)
    assert SchedulerGrid(8, 3.0, terminal=0.05).times()[-2] == pytest.approx(0.95)


def test_a_flow_of_ones_own_may_keep_the_grid(tmp_path):
    flow = Flow(MLP(NetSpec((2,)), hidden=(8,)), sampler=Sampler(Euler(), GRIDS[1]))
    flow.save_pretrained(tmp_path)
    read = Flow.from_pretrained(tmp_path)
    assert read.sampler == flow.sampler
    assert torch.equal(read.sample(3, seed=0), flow.sample(3, seed=0))


def test_texts_as_bytes_and_back():
    prompt = Prompt(negative="blurry", size=16)
    texts = ["a cube", "", "é 立方体"]
    value = prompt.check(prompt.read(texts))
    assert value.shape == (3, 32)
    assert value.dtype == torch.uint8
    assert prompt.texts(value) == texts
    assert prompt.texts(prompt.null(value)) == ["blurry"] * 3
    assert prompt.texts(prompt.null(prompt.null(value))) == ["blurry"] * 3
    assert prompt.texts(prompt.null(prompt.read(texts, "dark"))) == ["dark"] * 3
    assert prompt.texts(prompt.null(torch.zeros(2, 32))) == ["blurry"] * 2  # where nothing is told
    assert prompt.read("a cube").shape == (32,)
    assert torch.equal(prompt.read(value), value)
    conditions = Conditions((prompt,), {"prompt": 0.1})
    assert build(config_of(conditions)) == conditions
    with pytest.raises(InputError, match="17 bytes, above 16"):
        prompt.read("a" * 17)


PICTURES = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 16}
VIDEOS = {"z_dim": 16, "temperal_downsample": [False, True, True]}
PUBLISHED = {
    "StableDiffusion3Pipeline": (
        {"in_channels": 16, "patch_size": 2, "sample_size": 128, "pos_embed_max_size": 192},
        PICTURES,
        ((3, 1024, 1024), (16, 128, 128), 4096),
    ),
    "FluxPipeline": ({"in_channels": 64, "patch_size": 1}, PICTURES, ((3, 1024, 1024), (16, 128, 128), 4096)),
    "WanPipeline": (
        {"in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2]},
        VIDEOS,
        ((3, 81, 480, 832), (16, 21, 60, 104), 1560),
    ),
    "QwenImagePipeline": ({"in_channels": 64, "patch_size": 2}, VIDEOS, ((3, 1024, 1024), (16, 128, 128), 4096)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_of_the_published_sizes(name):
    transformer, vae, expected = PUBLISHED[name]
    assert plan(name, {}, transformer, vae, Wish())[1:] == expected


def test_the_shapes_of_wans_small_model_and_of_parts_that_do_not_belong_together():
    transformer = {"in_channels": 48, "out_channels": 48, "patch_size": [1, 2, 2]}
    vae = {"z_dim": 48, "scale_factor_spatial": 16, "scale_factor_temporal": 4, "patch_size": 2}
    found = plan("WanPipeline", {"expand_timesteps": True}, transformer, vae, Wish(704, 1280, 121))
    assert found[1:] == ((3, 121, 704, 1280), (48, 31, 44, 80), 880)
    assert found.backend.init_args()["per_token"] is True
    with pytest.raises(InputError, match="gives 16 channels and the transformer takes 48"):
        plan("WanPipeline", {}, transformer, VIDEOS, Wish())
    with pytest.raises(InputError, match="wants an embedded guidance scale"):
        plan("QwenImagePipeline", {}, {"in_channels": 64, "guidance_embeds": True}, VIDEOS, Wish())
