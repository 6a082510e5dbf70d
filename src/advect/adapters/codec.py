r"""The autoencoder of a latent pipeline as a codec: z = (encoder(x) - shift) / scale, and back."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from advect.adapters.layout import Frames, Layout
from advect.codecs import Codec
from advect.errors import InputError
from advect.parts import class_path
from advect.randomness import randn


class LatentCodec(Codec):
    r"""Pictures (B, 3, H, W) in [-1, 1] to latents (B, C, H / factor, W / factor), or videos (B, 3, F, H, W).

    Shift and scale are the autoencoder's: one number (`shift_factor`, `scaling_factor`: SD3, FLUX) or one per channel
    (`latents_mean`, `latents_std`: Wan, Qwen-Image). It computes in its own type, whatever that of the states is.
    Decoded pictures are not clamped, so gradients pass; frozen parameters get none.

    Args:
        vae: An autoencoder of diffusers; its parameters are frozen in place.
        patch: Latents per token of the transformer along height and width: pictures have to fit both.
        frames: "none" for an autoencoder of pictures; "one" for one of videos that is given a single frame
            (Qwen-Image); "many" for videos.
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
        patch: tuple[int, int] = (1, 1),
        frames: Frames = "none",
        posterior: Literal["mode", "sample"] = "mode",
        rows: int | None = 1,
    ) -> None:
        super().__init__()
        if posterior not in ("mode", "sample"):
            raise InputError(f"posterior is {posterior!r}: choose 'mode' or 'sample'")
        if rows is not None and rows < 1:
            raise InputError(f"rows is {rows}: at least one picture goes through the autoencoder, or None for all")
        self.vae = vae.requires_grad_(False).eval()
        self.layout = Layout.of(vae.config, patch, frames)  # pyright: ignore[reportArgumentType]
        self.posterior, self.rows = posterior, rows
        shift, scale = _statistics(vae)
        spread = (1, -1, *([1] * (2 if frames == "none" else 3)))
        self.register_buffer("shift", shift.reshape(spread), persistent=False)
        self.register_buffer("scale", scale.reshape(spread), persistent=False)

    def init_args(self) -> dict[str, Any]:
        """What it is made of, in plain values; the autoencoder is named, not described."""
        layout = self.layout
        named = {"vae": class_path(type(self.vae)), "patch": layout.patch, "frames": layout.frames}
        return named | {"posterior": self.posterior, "rows": self.rows}

    @property
    def dtype(self) -> torch.dtype:
        """The type the autoencoder computes in."""
        return next(self.vae.parameters()).dtype

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pictures or videos to states of x's type; `generator` feeds the draw of posterior="sample"."""
        self.latent_shape(tuple(x.shape[1:]))
        if not x.is_floating_point():
            raise InputError(f"pictures are {x.dtype}, and this autoencoder takes floats in [-1, 1]: x / 127.5 - 1")
        parts = [self._encode(part) for part in self._parts(self._framed(x))]
        mean = torch.cat([mean for mean, _ in parts]).to(x)
        if self.posterior == "sample" and parts[0][1] is not None:
            std = torch.cat([std for _, std in parts if std is not None]).to(x)
            mean = mean + std * randn(mean.shape, generator, dtype=x.dtype, device=x.device)
        return self._unframed((mean - self.shift.to(x.dtype)) / self.scale.to(x.dtype))

    def decode(self, z: Tensor) -> Tensor:
        """States to pictures or videos in about [-1, 1], of z's type."""
        raw = self._framed(z) * self.scale.to(z.dtype) + self.shift.to(z.dtype)
        parts: list[Tensor] = [
            self.vae.decode(part.to(self.dtype), return_dict=False)[0]  # pyright: ignore[reportCallIssue]
            for part in self._parts(raw)
        ]
        return self._unframed(torch.cat(parts).to(z))

    def latent_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.layout.state(shape)

    def data_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.layout.data(shape)  # without a pass through the autoencoder, which takes its time

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        found: Any = self.vae.encode(x.to(self.dtype))  # pyright: ignore[reportCallIssue]
        if hasattr(found, "latent_dist"):
            return found.latent_dist.mean, found.latent_dist.std
        return found.latents, None  # an autoencoder without a posterior, such as AutoencoderTiny

    def _framed(self, x: Tensor) -> Tensor:
        return x[:, :, None] if self.layout.frames == "one" else x

    def _unframed(self, x: Tensor) -> Tensor:
        return x[:, :, 0] if self.layout.frames == "one" else x

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
