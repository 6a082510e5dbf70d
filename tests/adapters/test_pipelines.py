"""Whole tiny pipelines as flows: the numbers of the pipelines themselves, restoration, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import tiny
import torch

from advect import Flow, Run
from advect.adapters import LatentCodec, SchedulerGrid, from_pipeline, from_pretrained
from advect.errors import InputError
from advect.guidance import CFG, AutoGuidance, Guided, TokenRescale
from advect.inverse import OTODE, Flair, FlowDPS, restore
from advect.inverse.operators import AverageDown, Box
from advect.solvers import Heun
from advect.times import ShiftedGrid, TimeGrid

SIZES = {"sd3": (32, 32, None), "flux": (32, 48, None), "wan": (32, 32, 5), "qwen": (32, 48, None)}
STEPS = 4


@pytest.fixture(scope="module", params=SIZES)
def made(request, tmp_path_factory):
    pipe = getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param))
    pipe.set_progress_bar_config(disable=True)
    return request.param, pipe, from_pipeline(pipe, *SIZES[request.param], steps=STEPS)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    pipe = tiny.sd3(tmp_path_factory.mktemp("sd3"))
    pipe.set_progress_bar_config(disable=True)
    return pipe, from_pipeline(pipe, 32, 32, steps=STEPS)


def noise(flow, n=2):
    return torch.randn(n, *flow.shape, generator=torch.Generator().manual_seed(3))


def published(name, pipe, flow, guided, output="latent"):
    """What the pipeline makes of the same noise and texts."""
    height, width, frames = SIZES[name]
    x0, prompts = noise(flow), ["a red cube", "two dogs"]
    options = {"height": height, "width": width, "num_inference_steps": STEPS, "output_type": output}
    if name in ("flux", "qwen"):
        x0 = pipe._pack_latents(x0, 2, flow.shape[0], *flow.shape[1:])
        options |= {"negative_prompt": ["blurry, dark"] * 2, "true_cfg_scale": 3.0} if guided else {}
    else:
        options |= {"negative_prompt": ["blurry, dark"] * 2, "guidance_scale": 3.0 if guided else 1.0}
    if frames:
        options["num_frames"] = frames
    out = pipe(prompt=prompts, latents=x0, **options)
    out = out.frames if name == "wan" else out.images
    if output != "latent":
        return out
    if name in ("flux", "qwen"):
        return pipe._unpack_latents(out, height, width, pipe.vae_scale_factor).reshape(2, *flow.shape)
    return out


def told(flow):
    return flow.network.tell(["a red cube", "two dogs"], negative="blurry, dark")


# the pipeline's own numbers


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


# a flow like any other


def test_texts_are_read_once_and_remembered(sd3):
    pipe, _ = sd3
    flow = from_pipeline(pipe, 32, 32, steps=3)
    calls = []
    encoder = flow.network._texts[0]
    inner = encoder.encode
    encoder.encode = lambda text: calls.append(text) or inner(text)
    flow.sample(4, prompt="a red cube", guidance=CFG(2.0), batch_size=2, seed=0)
    assert sorted(calls) == ["", "a red cube"]


def test_the_prompt_and_its_negative_count(sd3):
    _, flow = sd3
    options = {"guidance": CFG(3.0), "seed": 0}
    x = flow.sample(2, prompt="a red cube", **options)
    assert torch.equal(x, flow.sample(2, **flow.network.tell("a red cube"), **options))
    assert (x[1:] - flow.sample(1, prompt="a red cube", first=1, **options)).abs().max() < 1e-5
    for other in ("a blue cube", "a red cub", "é"):
        assert (flow.sample(2, prompt=other, **options) - x).abs().max() > 1e-4
    assert (flow.sample(2, **flow.network.tell("a red cube", negative="b"), **options) - x).abs().max() > 1e-4
    pipe_level = from_pipeline(sd3[0], 32, 32, steps=STEPS, negative="b").sample(2, prompt="a red cube", **options)
    assert torch.equal(pipe_level, flow.sample(2, **flow.network.tell("a red cube", negative="b"), **options))
    with pytest.warns(UserWarning, match="no condition is given"):
        nothing = flow.sample(2, **options)
    assert (nothing - flow.sample(2, prompt="", seed=0)).abs().max() < 1e-5


def test_any_solver_and_grid(sd3):
    _, flow = sd3
    x = flow.sample(1, prompt="a", seed=0, solver=Heun(), grid=TimeGrid(3))
    assert x.shape == (1, 3, 32, 32)
    assert flow.encode(x, prompt="a", solver=Heun(), grid=4).shape == (1, *flow.shape)
    assert len(flow.weights_hash()) == 64
    assert flow.weights_hash() == from_pipeline(sd3[0], 48, 32).weights_hash()


@pytest.mark.parametrize(
    "method", [Flair(steps=6), FlowDPS(grid=ShiftedGrid(6, 4.0)), OTODE(steps=3)], ids=lambda m: type(m).__name__
)
def test_restoration_through_the_autoencoder(sd3, method):
    """OT-ODE differentiates the transformer, the others the decoder alone."""
    pipe, flow = sd3
    x = flow.sample(2, prompt="a red cube", seed=5).detach()
    operator = Box(8, 8, 12, 12, noise=0.05)
    y = operator.measure(x, torch.Generator().manual_seed(0))
    found = restore(flow, y, operator, method, prompt="a red cube", guidance=(CFG(2.0),))
    assert found.x.shape == x.shape
    assert found.x.isfinite().all()
    start = flow.codec.decode(flow.codec.encode(operator.back_projection(y, (3, 32, 32))))
    if isinstance(method, Flair):
        residual, before = (operator(z) - y for z in (found.x, start))
        assert residual.square().mean() < 0.5 * before.square().mean()
    again = restore(flow, y, operator, method, prompt="a red cube", guidance=(CFG(2.0),))
    assert torch.equal(found.x, again.x)
    assert all(p.grad is None for part in (pipe.transformer, pipe.vae) for p in part.parameters())


def test_a_larger_picture_is_tiled(sd3):
    _, flow = sd3
    operator = AverageDown(2, noise=0.05)
    y = torch.rand(1, 3, 16, 24) * 2 - 1
    found = restore(flow, y, operator, Flair(steps=2), shape=(3, 32, 48), prompt="a red cube")
    assert found.x.shape == (1, 3, 32, 48)


def test_half_precision_weights_keep_float32_states(tmp_path):
    pipe = tiny.sd3(tmp_path).to(torch.bfloat16)
    flow = from_pipeline(pipe, 32, 32, steps=3)
    x = flow.sample(2, prompt="a", seed=0, record=True).states
    assert x.dtype == torch.float32
    assert flow.sample(1, prompt="a", seed=0).dtype == torch.float32
    exact = from_pipeline(tiny.sd3(tmp_path), 32, 32, steps=3).sample(2, prompt="a", seed=0, record=True).states
    assert 0 < (x - exact).abs().max() < 0.3


def test_everything_moves_along(sd3):
    pipe, flow = sd3
    flow.sample(1, prompt="a", steps=2)
    flow.to(torch.float64)
    assert flow.network.told(flow.network.tell(["a"]), torch.zeros(1))["pooled_projections"].dtype == torch.float64
    assert (
        not flow.network._texts[0]
        .known["a"]["pooled_projections"]
        .float()
        .double()
        .equal(flow.network._texts[0].known["a"]["pooled_projections"])
    )  # read anew in float64
    assert pipe.text_encoder.dtype == pipe.text_encoder_3.dtype == torch.float64
    assert flow.sample(1, prompt="a", seed=0, steps=2).dtype == torch.float64
    flow.to(torch.float32)


# folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("pipeline")
    tiny.sd3(at / "texts").save_pretrained(at / "sd3")
    return at / "sd3"


def test_a_folder_is_the_pipeline(made, tmp_path):
    name, pipe, flow = made
    pipe.save_pretrained(tmp_path)
    height, width, frames = SIZES[name]
    read = from_pretrained(tmp_path, height=height, width=width, frames=frames, steps=STEPS)
    assert (read.sample(1, prompt="a", seed=0) - flow.sample(1, prompt="a", seed=0)).abs().max() < 1e-5
    assert read.weights_hash() == flow.weights_hash()
    assert read.sampler == flow.sampler


def test_the_type_of_a_folders_weights_is_a_choice(folder):
    assert from_pretrained(folder, dtype=torch.bfloat16, height=32, width=32).network.dtype == torch.bfloat16


def test_each_part_keeps_the_type_it_is_stored_in(tmp_path):
    pipe = tiny.sd3(tmp_path / "texts")
    pipe.transformer.to(torch.bfloat16)
    pipe.text_encoder_3.to(torch.float16)
    pipe.save_pretrained(tmp_path / "sd3")
    flow = from_pretrained(tmp_path / "sd3", height=32, width=32)
    assert (flow.network.dtype, flow.codec.dtype) == (torch.bfloat16, torch.float32)
    assert [module.dtype for module in flow.network._texts[0].modules] == [torch.float32, torch.float32, torch.float16]


def test_a_path_and_other_things_are_no_pipeline(folder):
    with pytest.raises(InputError, match="from_pretrained opens a folder"):
        from_pipeline(str(folder))
    with pytest.raises(InputError, match=r"is a Linear, and those .* FluxPipeline"):
        from_pipeline(torch.nn.Linear(2, 2))


def test_a_weaker_pipeline_to_compare_with(sd3):
    pipe, flow = sd3
    other = from_pipeline(pipe, 32, 32, steps=STEPS)
    torch.manual_seed(9)
    other.network.transformer = tiny.sd3_transformer()
    guided = flow.but().compare_with(other).sample(1, prompt="a", seed=0, guidance=AutoGuidance(2.0))
    assert (guided - flow.sample(1, prompt="a", seed=0)).abs().max() > 1e-3


def test_saving_is_refused_with_the_mend(sd3, tmp_path):
    _, flow = sd3
    with pytest.raises(InputError, match=r"pipe\.save_pretrained"):
        flow.save_pretrained(tmp_path / "flow")
    assert not (tmp_path / "flow").exists()
    with pytest.raises(InputError, match=r"flow\.json"):
        Flow.from_pretrained(tmp_path / "flow")


def test_folders_that_are_refused(folder, tmp_path):
    with pytest.raises(TypeError, match="hight"):
        from_pretrained(folder, hight=32)
    with pytest.raises(InputError, match=r"no model_index\.json"):
        from_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no model_index\.json"):
        from_pretrained("stabilityai/stable-diffusion-3.5-medium")
    index = json.loads((folder / "model_index.json").read_text())

    def changed(**entries):
        (tmp_path / "model_index.json").write_text(json.dumps(index | entries))
        return tmp_path

    with pytest.raises(
        InputError, match=r"StableDiffusionPipeline, and those .* StableDiffusion3Pipeline, FluxPipeline"
    ):
        from_pretrained(changed(_class_name="StableDiffusionPipeline"))
    with pytest.raises(InputError, match="transformer from my_code: only parts of diffusers and transformers"):
        from_pretrained(changed(transformer=["my_code", "Net"]))
    with pytest.raises(InputError, match=r"transformer/config\.json is missing"):
        from_pretrained(changed())
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
        shutil.copy(folder / part / "config.json", tmp_path / part)
    for options, match in (({"height": 30}, "multiples of"), ({"guidance": 3.0}, "told no scale")):
        with pytest.raises(InputError, match=match):  # and that before weights are looked for
            from_pretrained(changed(), **options)
    with pytest.raises(InputError, match="cannot be read as a StableDiffusion3Pipeline of safetensors"):
        from_pretrained(changed())


# refusals


def test_sizes_that_are_refused(made):
    name, pipe, _ = made
    with pytest.raises(InputError, match="the sides are multiples of"):
        from_pipeline(pipe, 30, 32, SIZES[name][2])
    with pytest.raises(InputError, match="height 0 and width 32 do not fit"):
        from_pipeline(pipe, 0, 32, SIZES[name][2])
    if name == "wan":
        with pytest.raises(InputError, match=r"6 frames do not fit.* such as 5"):
            from_pipeline(pipe, 32, 32, 6)
    else:
        with pytest.raises(InputError, match=r"frames is 5, but a .* makes pictures"):
            from_pipeline(pipe, 32, 32, 5)
    if name == "sd3":
        with pytest.raises(InputError, match="the largest side"):
            from_pipeline(pipe, 32, 4096)


def test_the_embedded_scale_is_for_distilled_transformers(made, tmp_path):
    name, pipe, _ = made
    with pytest.raises(InputError, match=r"told no scale: .*CFG\(7\)"):
        from_pipeline(pipe, *SIZES[name], guidance=7.0)
    if name == "flux":
        pipe = tiny.flux(tmp_path, guidance_embeds=True)
        one, usual = (from_pipeline(pipe, 32, 48, steps=2, guidance=g) for g in (1.0, None))
        assert usual.network.backend.guidance == 3.5
        assert (one.sample(1, prompt="a", seed=0) - usual.sample(1, prompt="a", seed=0)).abs().max() > 1e-4
        pipe.set_progress_bar_config(disable=True)
        x = pipe("a", height=32, width=48, num_inference_steps=2, guidance_scale=1.0, output_type="pt",
                 latents=pipe._pack_latents(noise(one, 1), 1, *one.shape)).images  # fmt: skip
        assert ((one.sample(1, prompt="a", x0=noise(one, 1)) / 2 + 0.5).clamp(0, 1) - x).abs().max() < 1e-4


def test_texts_that_are_refused(sd3):
    _, flow = sd3
    for value, match in (
        (3, "prompt is 3: give a text"),
        ([], r"prompt is \[\]"),
        (["a", 3], "give a text for all samples"),
        ("a" * 5000, "5000 bytes, above 4096"),
        ("a\0b", "without zero bytes"),
        (torch.zeros(2, 5), "the bytes of texts are uint8"),
    ):
        with pytest.raises(InputError, match=match):
            flow.sample(2, prompt=value)
    with pytest.raises(InputError, match="prompt has 3 values for 2 samples"):
        flow.sample(2, prompt=["a", "b", "c"])
    with pytest.raises(InputError, match="no condition is called 'label'"):
        flow.sample(2, label=3)
    with pytest.raises(InputError, match="without zero bytes"):
        flow.network.tell("a", negative=3)


def test_other_schedulers(sd3):
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    pipe, _ = sd3
    own = pipe.scheduler
    try:
        pipe.scheduler = DDIMScheduler()
        with pytest.raises(InputError, match="the scheduler is DDIMScheduler"):
            from_pipeline(pipe, 32, 32)
        assert from_pipeline(pipe, 32, 32, grid=TimeGrid(7), steps=5).sampler.grid == TimeGrid(5)
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)
        with pytest.raises(InputError, match="use_karras_sigmas, which is not read"):
            from_pipeline(pipe, 32, 32)
    finally:
        pipe.scheduler = own


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1, "terminal": 0.02}, "steps is 1"),
        ({"shift": 0.0}, "shift is 0"),
        ({"least": 1.0}, "least is 1"),
        ({"inclusive": True}, "least is 0"),
        ({"terminal": 1.5}, "terminal is 1.5"),
    ],
)
def test_grids_that_are_refused(arguments, match):
    with pytest.raises(InputError, match=match):
        SchedulerGrid(**arguments)


def test_wan_with_two_experts(tmp_path):
    torch.manual_seed(7)
    pipe = tiny.wan(tmp_path, transformer_2=tiny.wan_transformer(), boundary_ratio=0.9)
    pipe.set_progress_bar_config(disable=True)
    flow = from_pipeline(pipe, 32, 32, 5, steps=STEPS)
    states = flow.sample(2, x0=noise(flow), guidance=CFG(3.0), record=True, **told(flow)).states
    assert (states[-1] - published("wan", pipe, flow, True)).abs().max() < 1e-4
    one = from_pipeline(tiny.wan(tmp_path), 32, 32, 5, steps=STEPS)
    assert (
        one.sample(2, x0=noise(flow), guidance=CFG(3.0), record=True, **told(flow)).states[-1] - states[-1]
    ).abs().max() > 1e-4


# the page


def test_the_examples_of_the_page_run(folder):
    """Those that need weights, on the tiny pipeline in their place."""
    page = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()
    blocks = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        small = block.replace("sd3.5-medium", str(folder)).replace("512", "32").replace("steps=50", "steps=5")
        exec(compile(small, "adapters.md", "exec"), names)
    assert names["x"].shape == names["found"].x.shape == (2, 3, 32, 32)
