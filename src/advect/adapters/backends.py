r"""How the transformer of a published pipeline is called: its time, its packing, its sign. One class per family.

All of them take noise at time 1, answer with noise - data, and want the time in their own units. Here x is a state
(B, C, h, w) (Wan: (B, C, F, h, w)), t is (B,) with t=0 the noise, and the answer is v = data - noise. Checked against
diffusers 0.42.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advect.adapters.prompts import Told
from advect.errors import InputError
from advect.parts import Part


def pack(x: Tensor) -> Tensor:
    """2x2 blocks of (B, C, h, w) as tokens (B, hw/4, 4C): channel slowest, then row and column in the block."""
    b, c, h, w = x.shape
    blocks = x.reshape(b, c, h // 2, 2, w // 2, 2)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // 2) * (w // 2), 4 * c)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`pack`, for states of this height and width."""
    b, _, c = tokens.shape
    blocks = tokens.reshape(b, height // 2, width // 2, c // 4, 2, 2)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, height, width)


def picture_ids(height: int, width: int, like: Tensor) -> Tensor:
    """FLUX's place of each token, (hw/4, 3): 0, row, column."""
    rows = torch.arange(height // 2, device=like.device, dtype=like.dtype)
    columns = torch.arange(width // 2, device=like.device, dtype=like.dtype)
    row, column = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3)


class Backend(Part, ABC):
    """A family of transformers.

    Attributes:
        tells: What every call needs beside state and time, by the transformer's own names.
        may_tell: What it can be told besides.
    """

    tells = ("encoder_hidden_states",)
    may_tell: tuple[str, ...] = ()

    @abstractmethod
    def velocity(self, transformer: Any, x: Tensor, t: Tensor, told: Told) -> Tensor:
        """v at the state x, of the transformer's type, and times t (B,) in float32; shape of x."""

    @abstractmethod
    def encode(self, pipe: Any, text: str) -> Told:
        """What the transformer is told of one text, each tensor (1, ...)."""

    @classmethod
    def patch(cls, config: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width of the block of a state that is one token, for a transformer of this configuration."""
        return 2, 2

    @classmethod
    def channels(cls, config: Mapping[str, Any]) -> int:
        """Channels of a state."""
        return config["in_channels"] // 4

    def check(self, told: Told) -> None:
        """Refuse what is missing, and what this transformer does not take."""
        missing = [name for name in self.tells if name not in told]
        if missing:
            raise InputError(
                f"{type(self).__name__} is told {sorted(told)}, and {', '.join(missing)} is missing: pass prompt= "
                "to a flow with text encoders, or these tensors"
            )
        unknown = sorted(set(told) - {*self.tells, *self.may_tell})
        if unknown:
            raise InputError(f"{type(self).__name__} is told {unknown}, but takes {[*self.tells, *self.may_tell]}")


def _device(encoder: Any) -> torch.device:
    """Where a text encoder computes; some pipelines lack one."""
    return torch.device("cpu") if encoder is None else encoder.device


@dataclass(frozen=True)
class SD3(Backend):
    """Stable Diffusion 3 and 3.5: time 1000 (1 - t), states as they are.

    Args:
        max_tokens: Tokens of the T5 encoder.
    """

    max_tokens: int = 256

    tells = ("encoder_hidden_states", "pooled_projections")

    @classmethod
    def patch(cls, config: Mapping[str, Any]) -> tuple[int, int]:
        return config["patch_size"], config["patch_size"]

    @classmethod
    def channels(cls, config: Mapping[str, Any]) -> int:
        return config["in_channels"]

    def velocity(self, transformer: Any, x: Tensor, t: Tensor, told: Told) -> Tensor:
        return -transformer(hidden_states=x, timestep=1000 * (1 - t), return_dict=False, **told)[0]

    def encode(self, pipe: Any, text: str) -> Told:
        embedded, _, pooled, _ = pipe.encode_prompt(
            prompt=text,
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
            device=_device(pipe.text_encoder),
        )
        return {"encoder_hidden_states": embedded, "pooled_projections": pooled}


@dataclass(frozen=True)
class Flux(Backend):
    """FLUX: time 1 - t, states packed into 2x2 tokens with places; the distilled guidance scale is an input.

    Args:
        guidance: The scale that a guidance-distilled transformer (FLUX.1-dev) is told; others are not told one.
        max_tokens: Tokens of the T5 encoder; 256 for FLUX.1-schnell.
    """

    guidance: float = 3.5
    max_tokens: int = 512

    tells = ("encoder_hidden_states", "pooled_projections")

    def velocity(self, transformer: Any, x: Tensor, t: Tensor, told: Told) -> Tensor:
        h, w = x.shape[-2:]
        scale = None
        if transformer.config.guidance_embeds:
            scale = torch.full_like(t, self.guidance)
        text = told["encoder_hidden_states"]
        out = transformer(
            hidden_states=pack(x),
            timestep=1 - t,
            guidance=scale,
            txt_ids=torch.zeros(text.shape[1], 3, dtype=x.dtype, device=x.device),
            img_ids=picture_ids(h, w, x),
            return_dict=False,
            **told,
        )[0]
        return -unpack(out, h, w)

    def encode(self, pipe: Any, text: str) -> Told:
        embedded, pooled, _ = pipe.encode_prompt(
            prompt=text, prompt_2=None, max_sequence_length=self.max_tokens, device=_device(pipe.text_encoder)
        )
        return {"encoder_hidden_states": embedded, "pooled_projections": pooled}


@dataclass(frozen=True)
class Wan(Backend):
    """Wan 2.1 and 2.2, videos: time 1000 (1 - t), of each sample or (Wan 2.2 5B) of each token.

    ``channels`` (B, c, F, h, w) are put behind the state's: the mask and the encoded first frame of an image-to-video
    transformer, which may also be told ``encoder_hidden_states_image``.

    Args:
        per_token: Whether the time is given for each token (``expand_timesteps`` of the pipeline).
        max_tokens: Tokens of the text encoder.
    """

    per_token: bool = False
    max_tokens: int = 512

    may_tell = ("encoder_hidden_states_image", "channels")

    @classmethod
    def patch(cls, config: Mapping[str, Any]) -> tuple[int, int]:
        _, height, width = config["patch_size"]
        return height, width

    @classmethod
    def channels(cls, config: Mapping[str, Any]) -> int:
        return config["out_channels"]  # an image-to-video transformer takes more than the state's

    def velocity(self, transformer: Any, x: Tensor, t: Tensor, told: Told) -> Tensor:
        told = dict(told)
        time = 1000 * (1 - t)
        if self.per_token:
            tokens = 1
            for side, patch in zip(x.shape[2:], transformer.config.patch_size, strict=True):
                tokens *= side // patch
            time = time[:, None].expand(-1, tokens)
        if "channels" in told:
            x = torch.cat([x, told.pop("channels")], 1)
        return -transformer(hidden_states=x, timestep=time, return_dict=False, **told)[0]

    def encode(self, pipe: Any, text: str) -> Told:
        embedded, _ = pipe.encode_prompt(
            prompt=text,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
            device=_device(pipe.text_encoder),
        )
        return {"encoder_hidden_states": embedded}


@dataclass(frozen=True)
class QwenImage(Backend):
    """Qwen-Image: time 1 - t, states packed into 2x2 tokens, texts of any length with a mask.

    Args:
        max_tokens: Tokens of the text.
    """

    max_tokens: int = 512

    may_tell = ("encoder_hidden_states_mask",)

    def velocity(self, transformer: Any, x: Tensor, t: Tensor, told: Told) -> Tensor:
        h, w = x.shape[-2:]
        out = transformer(
            hidden_states=pack(x),
            timestep=1 - t,
            img_shapes=[[(1, h // 2, w // 2)]] * len(x),
            return_dict=False,
            **told,
        )[0]
        return -unpack(out, h, w)

    def encode(self, pipe: Any, text: str) -> Told:
        embedded, mask = pipe.encode_prompt(
            prompt=text, max_sequence_length=self.max_tokens, device=_device(pipe.text_encoder)
        )
        if mask is None:
            mask = torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
        return {"encoder_hidden_states": embedded, "encoder_hidden_states_mask": mask}
