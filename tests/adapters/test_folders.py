"""Folders of pipelines are read back, types and all, and the examples of the page run on one; what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from published import SIZES, STEPS

from advect import Flow
from advect.adapters import from_pretrained
from advect.errors import InputError


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
    names = ("transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model")
    for name in names:  # published folders hold half precision beside it, and files for other programs
        shutil.copy(tmp_path / "sd3" / f"{names[0]}.safetensors", tmp_path / "sd3" / f"{name}.fp16.safetensors")
    (tmp_path / "sd3" / "text_encoders").mkdir()
    shutil.copy(tmp_path / "sd3" / f"{names[0]}.safetensors", tmp_path / "sd3" / "text_encoders")
    flow = from_pretrained(tmp_path / "sd3", height=32, width=32)
    assert (flow.network.dtype, flow.codec.dtype) == (torch.bfloat16, torch.float32)
    assert [module.dtype for module in flow.network._texts[0].modules] == [torch.float32, torch.float32, torch.float16]


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
    with pytest.raises(InputError, match=r"scheduler is missing, and model_index\.json names it"):
        from_pretrained(changed())


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
