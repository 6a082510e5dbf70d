"""The shapes of states for pictures and videos, from the configuration of an autoencoder, before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from advect.errors import InputError

Frames = Literal["none", "one", "many"]


@dataclass(frozen=True)
class Layout:
    """What an autoencoder makes of pictures (3, H, W) or videos (3, F, H, W), and which of them fit.

    Args:
        channels: Channels of a state.
        factor: Pixels per latent along height and width.
        patch: Latents per token along height and width: the pictures' sides are multiples of factor * patch.
        frames: "none" for an autoencoder of pictures; "one" for one of videos that is given a single frame
            (Qwen-Image); "many" for videos.
        frame_factor: Frames per latent frame, after the first.
    """

    channels: int
    factor: int = 8
    patch: tuple[int, int] = (1, 1)
    frames: Frames = "none"
    frame_factor: int = 4

    @classmethod
    def of(cls, vae: Mapping[str, Any], patch: tuple[int, int] = (1, 1), frames: Frames = "none") -> Layout:
        """The layout of an autoencoder of diffusers.

        Args:
            vae: Its configuration.
            patch: Latents per token of the transformer behind it.
            frames: What it is given.
        """
        if frames == "none":
            return cls(vae["latent_channels"], 2 ** (len(vae["block_out_channels"]) - 1), patch)
        stages = vae.get("temperal_downsample") or (False, True, True)  # (sic) the name in the configurations
        factor = vae.get("scale_factor_spatial") or 2 ** len(stages)
        return cls(vae["z_dim"], factor, patch, frames, vae.get("scale_factor_temporal") or 4)

    def state(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the state of data of `shape`, both without batch.

        Raises:
            InputError: If it does not fit.
        """
        video = self.frames == "many"
        if len(shape) != (4 if video else 3) or shape[0] != 3:
            form = "(B, 3, F, H, W)" if video else "(B, 3, H, W)"
            raise InputError(f"data of shape {shape} without the batch do not fit this autoencoder, which takes {form}")
        unit = [self.factor * patch for patch in self.patch]
        if any(side < 1 or side % block for side, block in zip(shape[-2:], unit, strict=True)):
            near = "x".join(str(max(u, u * round(side / u))) for side, u in zip(shape[-2:], unit, strict=True))
            raise InputError(
                f"pictures of height {shape[-2]} and width {shape[-1]} do not fit: the sides are multiples of "
                f"{unit[0]} and {unit[1]} here, such as {near}"
            )
        sides = (shape[-2] // self.factor, shape[-1] // self.factor)
        if not video:
            return (self.channels, *sides)
        if shape[1] < 1 or (shape[1] - 1) % self.frame_factor:
            near = 1 + self.frame_factor * max(0, round((shape[1] - 1) / self.frame_factor))
            raise InputError(
                f"{shape[1]} frames do not fit: they are 1 more than a multiple of {self.frame_factor}, such as {near}"
            )
        return (self.channels, (shape[1] - 1) // self.frame_factor + 1, *sides)

    def data(self, state: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the data of states of the shape `state`, both without batch."""
        sides = (self.factor * state[-2], self.factor * state[-1])
        return (3, 1 + self.frame_factor * (state[1] - 1), *sides) if self.frames == "many" else (3, *sides)

    def tokens(self, shape: tuple[int, ...]) -> int:
        """Tokens of one frame of data of `shape`, which the shift of noise levels goes by."""
        height, width = self.state(shape)[-2:]
        return (height // self.patch[0]) * (width // self.patch[1])
