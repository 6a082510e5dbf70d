"""What is refused, by a sentence that names the mend: sizes, scales, texts, schedulers, grids."""

from __future__ import annotations

import pytest
import tiny
import torch
from published import SIZES, noise

from advect.adapters import SchedulerGrid, from_pipeline
from advect.errors import InputError
from advect.times import TimeGrid


def test_a_path_and_other_things_are_no_pipeline(folder):
    with pytest.raises(InputError, match="from_pretrained opens a folder"):
        from_pipeline(str(folder))
    with pytest.raises(InputError, match=r"is a Linear, and those .* FluxPipeline"):
        from_pipeline(torch.nn.Linear(2, 2))


def test_pipelines_without_a_part_that_is_needed(made, monkeypatch):
    name, pipe, _ = made
    ends = [end for end in ("", "_2") if f"text_encoder{end}" in pipe.components]
    for part in ("transformer", "vae", *(f"{kind}{end}" for kind in ("text_encoder", "tokenizer") for end in ends)):
        with monkeypatch.context() as patch:
            patch.setattr(pipe, part, None)
            with pytest.raises(InputError, match=f"Pipeline has no {part}: load it with all parts"):
                from_pipeline(pipe, *SIZES[name])
    if name == "sd3":
        with monkeypatch.context() as patch:
            patch.setattr(pipe, "text_encoder_3", None)
            assert from_pipeline(pipe, 32, 32, steps=2).sample(1, prompt="a").isfinite().all()


def test_pictures_that_the_autoencoder_does_not_take(made):
    name, _, flow = made
    shape = (5, 32, 32) if name == "wan" else (32, 32)
    with pytest.raises(InputError, match=r"which takes \(B, 3, "):
        flow.codec.encode(torch.zeros(1, 1, *shape))
    with pytest.raises(InputError, match=r"pictures are torch.uint8, .* floats in \[-1, 1\]: x / 127.5 - 1"):
        flow.codec.encode(torch.zeros(1, 3, *shape, dtype=torch.uint8))


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
        ("a \udcff", "no text in UTF-8"),
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
