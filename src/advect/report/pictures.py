"""Images in [-1, 1] as PNG: single files, grids, and pictures embedded in a page."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advect.errors import InputError, require
from advect.files import write_atomically
from advect.report.page import Html, markup


def as_bytes(images: Tensor) -> np.ndarray:
    """Images (B, 1 or 3, H, W) in [-1, 1] as uint8 (B, H, W, 3 or 1); what lies outside the range is cut off."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"images have shape {tuple(images.shape)}: expected (B, 1, H, W) or (B, 3, H, W)")
    scaled = ((images.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).numpy()


def png(pixels: np.ndarray) -> bytes:
    """PNG of uint8 pixels (H, W, 1 or 3)."""
    image = require("PIL.Image", "images", "writing pictures")
    out = io.BytesIO()
    image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def tile(images: Tensor, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Lay images out in rows, `gap` white pixels apart: uint8 (H, W, channels)."""
    pixels = as_bytes(images)
    n, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8)
    for i in range(n):
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = pixels[i]
    return sheet


def save_png(path: str | os.PathLike[str], images: Tensor, columns: int | None = None) -> None:
    """Write a grid of images, or one image, as a PNG file."""
    write_atomically(path, png(tile(images, columns)))


def save_each(folder: str | os.PathLike[str], images: Tensor, first: int = 0) -> None:
    """Write every image as ``<number>.png`` with six digits, numbered from `first`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(as_bytes(images), first):
        (folder / f"{number:06d}.png").write_bytes(png(pixels))


def picture(data: bytes, alt: str, caption: str = "", *, width: int | None = None, pixels: bool = False) -> Html:
    """Embed a PNG; `width` in CSS pixels, `pixels` to enlarge without smoothing."""
    source = base64.b64encode(data).decode()
    size = "" if width is None else f' width="{width}"'
    below = f"<figcaption>{markup(caption)}</figcaption>" if caption else ""
    kind = ' class="pixels"' if pixels else ""
    return Html(f'<figure><img{kind}{size} alt="{markup(alt)}" src="data:image/png;base64,{source}">{below}</figure>')


def grid(images: Tensor, caption: str = "", columns: int | None = None, zoom: int | None = None) -> Html:
    """A grid of images, enlarged by a whole number to be seen."""
    sheet = tile(images, columns)
    if zoom is None:
        zoom = max(1, round(32 / images.shape[-1]))
    return picture(png(sheet), caption or "samples", caption, width=sheet.shape[1] * zoom, pixels=True)


def film(states: Tensor, decode: Any = None, frames: int = 8, samples: int = 6) -> Tensor:
    """Pictures of a recorded run, one row a sample, one column a time: (samples * frames, C, H, W).

    Args:
        states: States (steps + 1, B, *shape) of a trajectory.
        decode: State to data; None where they are the same.
        frames: Columns, spread evenly over the steps, both ends included.
        samples: Rows.
    """
    chosen = torch.linspace(0, states.shape[0] - 1, min(frames, states.shape[0])).round().long()
    rows = states[chosen, :samples].transpose(0, 1).flatten(0, 1)
    return rows if decode is None else decode(rows)


def beside(pairs: Sequence[Tensor]) -> Tensor:
    """Interleave sets of images for a grid whose columns come in groups: a0 b0 a1 b1 ..."""
    return torch.stack(list(pairs), 1).flatten(0, 1)
