r"""The autoencoder of a latent pipeline as a codec: z = (encoder(x) - shift) / scale, and back."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from advect.codecs import Codec
from advect.errors import InputError
from advect.parts import class_path
from advect.randomness import randn

Frames = Literal["none", "one", "many"]


class LatentCodec(Codec):
    r"""Pictures (B, 3, H, W) in [-1, 1] to latents (B, C, H / factor, W / factor), or videos (B, 3, F, H, W).

    Shift and scale are the autoencoder's: one number (`shift_factor`, `scaling_factor`: SD3, FLUX) or one per channel
    (`latents_mean`, `latents_std`: Wan, Qwen-Image). It computes in its own type, whatever that of the states is.
    Decoded pictures are not clamped, so gradients pass; frozen parameters get none.

    Args:
        vae: An autoencoder of diffusers; its parameters are frozen in place.
        factor: Pixels per latent along height and width.
        patch: Latents per token along height and width: the pictures' sides are multiples of factor * patch.
        frames: "none" for an autoencoder of pictures; "one" for one of videos that is given a single frame
            (Qwen-Image); "many" for videos, whose frames are then 1 more than a multiple of `frame_factor`.
        frame_factor: Frames per latent frame, after the first.
        posterior: "mode" encodes to the mean, "sample" draws from the encoder's Gaussian.
        rows: Pictures that go through the autoencoder together; None for all.

    Raises:
        InputError: If data do not fit, or the autoencoder's configuration names no scale.

    Source: arXiv 2112.10752, section 3.1. Where diffusers differs: SD3's and FLUX's pipelines undo scale and shift in
    the type of their latents; here it is done in the states' type, float32.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        vae: nn.Module,
        factor: int = 8,
        patch: tuple[int, int] = (1, 1),
        frames: Frames = "none",
        frame_factor: int = 4,
        posterior: Literal["mode", "sample"] = "mode",
        rows: int | None = 8,
    ) -> None:
        super().__init__()
        if posterior not in ("mode", "sample"):
            raise InputError(f"posterior is {posterior!r}: choose 'mode' or 'sample'")
        if rows is not None and rows < 1:
            raise InputError(f"rows is {rows}: at least one picture goes through the autoencoder, or None for all")
        self.vae = vae.requires_grad_(False).eval()
        self.factor, self.patch, self.frames, self.frame_factor = factor, patch, frames, frame_factor
        self.posterior, self.rows = posterior, rows
        shift, scale = _statistics(vae)
        spread = (1, -1, *([1] * (2 if frames == "none" else 3)))
        self.register_buffer("shift", shift.reshape(spread), persistent=False)
        self.register_buffer("scale", scale.reshape(spread), persistent=False)

    def init_args(self) -> dict[str, Any]:
        """What it is made of, in plain values; the autoencoder is named, not described."""
        names = ("factor", "patch", "frames", "frame_factor", "posterior", "rows")
        return {"vae": class_path(type(self.vae)), **{name: getattr(self, name) for name in names}}

    @property
    def dtype(self) -> torch.dtype:
        """The type the autoencoder computes in."""
        return next(self.vae.parameters()).dtype

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures or videos to states of x's type; `generator` feeds the draw of posterior="sample"."""
        self.latent_shape(tuple(x.shape[1:]))
        parts = [self._encode(part) for part in self._parts(self._framed(x))]
        mean = torch.cat([mean for mean, _ in parts]).to(x.dtype)
        if self.posterior == "sample" and parts[0][1] is not None:
            std = torch.cat([std for _, std in parts if std is not None]).to(x.dtype)
            mean = mean + std * randn(mean.shape, generator, dtype=x.dtype, device=x.device)
        return self._unframed((mean - self.shift.to(x.dtype)) / self.scale.to(x.dtype))

    def decode(self, z: Tensor) -> Tensor:
        """States to pictures or videos in about [-1, 1], of z's type."""
        raw = self._framed(z) * self.scale.to(z.dtype) + self.shift.to(z.dtype)
        with torch.autocast(z.device.type, enabled=False):
            parts: list[Tensor] = [
                self.vae.decode(part.to(self.dtype), return_dict=False)[0]  # pyright: ignore[reportCallIssue]
                for part in self._parts(raw)
            ]
        return self._unframed(torch.cat(parts).to(z.dtype))

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        video = self.frames == "many"
        if len(shape) != (4 if video else 3):
            form = "(B, C, F, H, W)" if video else "(B, C, H, W)"
            raise InputError(f"data of shape {shape} without the batch do not fit this autoencoder, which takes {form}")
        unit = [self.factor * patch for patch in self.patch]
        if any(side % block for side, block in zip(shape[-2:], unit, strict=True)):
            raise InputError(
                f"pictures of {shape[-2]}x{shape[-1]} do not fit: height and width are multiples of {unit[0]} and "
                f"{unit[1]} here, such as {_near(shape[-2], unit[0])}x{_near(shape[-1], unit[1])}"
            )
        sides = (shape[-2] // self.factor, shape[-1] // self.factor)
        channels = self.scale.shape[1] if self.scale.shape[1] > 1 else int(self.vae.config.latent_channels)  # pyright: ignore
        if not video:
            return (channels, *sides)
        if (shape[1] - 1) % self.frame_factor:
            good = 1 + self.frame_factor * round((shape[1] - 1) / self.frame_factor)
            raise InputError(
                f"{shape[1]} frames do not fit: they are 1 more than a multiple of {self.frame_factor}, such as {good}"
            )
        return (channels, (shape[1] - 1) // self.frame_factor + 1, *sides)

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(x.device.type, enabled=False):
            found: Any = self.vae.encode(x.to(self.dtype))  # pyright: ignore[reportCallIssue]
        if hasattr(found, "latent_dist"):
            return found.latent_dist.mean, found.latent_dist.std
        return found.latents, None  # an autoencoder without a posterior, such as AutoencoderTiny

    def _framed(self, x: Tensor) -> Tensor:
        return x[:, :, None] if self.frames == "one" else x

    def _unframed(self, x: Tensor) -> Tensor:
        return x[:, :, 0] if self.frames == "one" else x

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) if self.rows is None else x.split(self.rows)


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Shift and scale of raw latents, one number each or one per channel."""
    config = vae.config
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        return torch.tensor(config["latents_mean"]), torch.tensor(config["latents_std"])
    if config.get("scaling_factor") is None:
        raise InputError(
            f"{type(vae).__name__} names no scaling_factor and no latents_std: it is no latent autoencoder"
        )
    return torch.tensor([config.get("shift_factor") or 0.0]), 1 / torch.tensor([config["scaling_factor"]])


def _near(side: int, unit: int) -> int:
    return max(unit, unit * round(side / unit))
