"""What a folder lacks, and types that are none, are named before any weights are read."""

from __future__ import annotations

import shutil

import pytest
import torch

from advect.adapters import from_pretrained
from advect.errors import InputError


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_3", "text_encoder_2", "scheduler"])
def test_a_part_that_the_index_names_and_nobody_copied_is_named(folder, tmp_path, part):
    shutil.copytree(folder, tmp_path / "sd3")
    shutil.rmtree(tmp_path / "sd3" / part)
    with pytest.raises(InputError, match=rf"sd3/{part} is missing, and model_index.json names it: copy the whole"):
        from_pretrained(tmp_path / "sd3", height=32, width=32)


@pytest.mark.parametrize("dtype", ["bf16", 16, float])
def test_a_type_by_another_name_is_refused(folder, dtype):
    """diffusers would take float32 for it."""
    with pytest.raises(InputError, match=r"give a type of torch, such as torch.bfloat16"):
        from_pretrained(folder, dtype=dtype, height=32, width=32)


@pytest.mark.parametrize("dtype", [None, torch.float32])
@pytest.mark.parametrize("cut", ["a pointer of git-lfs", "empty", "in the header", "in the tensors", "gone"])
def test_weights_that_were_not_downloaded_whole_are_named(folder, tmp_path, cut, dtype):
    shutil.copytree(folder, tmp_path / "sd3")
    file = tmp_path / "sd3" / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
    left = {"a pointer of git-lfs": pointer, "empty": b"", "in the header": whole[:40], "in the tensors": whole[:-50]}
    file.write_bytes(left.get(cut, b""))
    if cut == "gone":
        file.unlink()
    with pytest.raises(InputError, match=r"is no whole safetensors file|cannot be read as a StableDiffusion3Pipeline"):
        from_pretrained(tmp_path / "sd3", height=32, width=32, dtype=dtype)
