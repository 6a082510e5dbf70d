"""Whole pipelines of diffusers, a few thousand random weights each, made without a network: for plumbing alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

CHARACTERS = [chr(code) for code in range(33, 127)]


def clip_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer of single characters."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    words = [*CHARACTERS, *(f"{c}</w>" for c in CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def t5_tokenizer() -> Any:
    """A T5 tokenizer of single characters."""
    from tokenizers import Tokenizer, models, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((c, -1.0) for c in [" ", *CHARACTERS])]
    core = Tokenizer(models.Unigram(pieces, unk_id=2))
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def qwen_tokenizer(folder: Path) -> Any:
    """A Qwen tokenizer of single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    made = Qwen2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "pad_token": "<|endoftext|>"})
    return made


def clip_text(projection: bool) -> Any:
    """A CLIP text encoder of width 32."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=190,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        max_position_embeddings=77,
        bos_token_id=188,
        eos_token_id=189,
        pad_token_id=189,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5_text(kind: str = "T5") -> Any:
    """A T5 (or UMT5) encoder of width 32."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=98, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, decoder_start_token_id=0, pad_token_id=0
    )
    return getattr(transformers, f"{kind}EncoderModel")(config).eval()


def picture_vae(channels: int) -> Any:
    """An autoencoder with two pixels per latent."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(4, 8),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    ).eval()


def sd3_transformer(**changes: Any) -> Any:
    """The transformer of Stable Diffusion 3."""
    from diffusers import SD3Transformer2DModel

    options = {
        "sample_size": 32,
        "patch_size": 2,
        "in_channels": 4,
        "num_layers": 1,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "caption_projection_dim": 32,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 64,
        "out_channels": 4,
    }
    return SD3Transformer2DModel(**options | changes).eval()


def flux_transformer(**changes: Any) -> Any:
    """The transformer of FLUX, packed states of 4 channels."""
    from diffusers import FluxTransformer2DModel

    options = {
        "patch_size": 1,
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "axes_dims_rope": [4, 4, 8],
    }
    return FluxTransformer2DModel(**options | changes).eval()


def wan_transformer(**changes: Any) -> Any:
    """The transformer of Wan, states of 16 channels."""
    from diffusers import WanTransformer3DModel

    options = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 32,
        "freq_dim": 256,
        "ffn_dim": 32,
        "num_layers": 1,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 32,
    }
    return WanTransformer3DModel(**options | changes).eval()


def qwen_transformer(**changes: Any) -> Any:
    """The transformer of Qwen-Image, packed states of `out_channels` channels."""
    from diffusers import QwenImageTransformer2DModel

    options = {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 3,
        "joint_attention_dim": 16,
        "guidance_embeds": False,
        "axes_dims_rope": (8, 4, 4),
    }
    return QwenImageTransformer2DModel(**options | changes).eval()


def sd3(folder: Path) -> Any:
    """A StableDiffusion3Pipeline; `folder` takes its tokenizer's files."""
    from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

    torch.manual_seed(0)
    return StableDiffusion3Pipeline(
        transformer=sd3_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=picture_vae(4),
        text_encoder=clip_text(True),
        tokenizer=clip_tokenizer(folder),
        text_encoder_2=clip_text(True),
        tokenizer_2=clip_tokenizer(folder),
        text_encoder_3=t5_text(),
        tokenizer_3=t5_tokenizer(),
    )


def flux(folder: Path, **changes: Any) -> Any:
    """A FluxPipeline with dynamic shift."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    torch.manual_seed(0)
    return FluxPipeline(
        transformer=flux_transformer(**changes),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=picture_vae(4),
        text_encoder=clip_text(False),
        tokenizer=clip_tokenizer(folder),
        text_encoder_2=t5_text(),
        tokenizer_2=t5_tokenizer(),
    )


def wan(folder: Path, **options: Any) -> Any:
    """A WanPipeline; an Euler scheduler, so that two ways of the same steps can be compared."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline

    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    parts = {
        "transformer": wan_transformer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
        "vae": vae.eval(),
        "text_encoder": t5_text("UMT5"),
        "tokenizer": t5_tokenizer(),
    }
    return WanPipeline(**parts | options)


def qwen(folder: Path) -> Any:
    """A QwenImagePipeline with dynamic shift, stretched to 0.02."""
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer(folder)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            "rope_theta": 1000000.0,
            "vocab_size": len(tokenizer),
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
        },
        hidden_size=16,
        vocab_size=len(tokenizer),
        vision_end_token_id=1,
        vision_start_token_id=2,
        vision_token_id=3,
    )
    vae = AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.5, 2.0, 1.0],
    )  # fmt: skip
    return QwenImagePipeline(
        transformer=qwen_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=1.0, use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=vae.eval(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
    )
