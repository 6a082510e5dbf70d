"""Picture files to uint8 tensors: decoding, one size for all, and pictures that stay on disk until asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from advect.errors import InputError, require

Resize = Literal["crop", "pad", "stretch"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
GREY_MODES = ("1", "L")
MODES = (*GREY_MODES, "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


def _open(name: str, file: BinaryIO) -> Any:
    image = require("PIL.Image", "images", "reading pictures")
    try:
        return image.open(file)
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError and its own types
        raise InputError(f"{name} is damaged or no picture: replace or remove it") from error


def look(name: str, file: BinaryIO) -> tuple[int, int, str]:
    """Height, width (as shown, after the camera's rotation) and Pillow mode, from the header alone."""
    picture = _open(name, file)
    if picture.mode not in MODES:
        raise InputError(f"{name} has pixels of mode {picture.mode}, not 8 bits a channel: convert it to 8-bit PNG")
    width, height = picture.size
    if picture.format == "JPEG" and picture.getexif().get(0x0112, 1) >= 5:  # orientations 5 to 8 lie on their side
        width, height = height, width
    return height, width, picture.mode


def decode(name: str, file: BinaryIO, channels: int, size: tuple[int, int] | None, resize: Resize) -> Tensor:
    """One picture as uint8 (channels, height, width): upright, on white where transparent, brought to `size`."""
    image, ops = require("PIL.Image", "images", "reading pictures"), require("PIL.ImageOps", "images", "pictures")
    picture = _open(name, file)
    try:
        picture = ops.exif_transpose(picture)
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            picture = image.alpha_composite(image.new("RGBA", layer.size, "white"), layer)
        picture = picture.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # as above, and decoders' own
        raise InputError(f"{name} is damaged ({error}): replace or remove it") from error
    if size is not None and picture.size != size[::-1]:
        bicubic, wide = image.Resampling.BICUBIC, size[::-1]
        if resize == "crop":
            picture = ops.fit(picture, wide, bicubic)
        elif resize == "pad":
            picture = ops.pad(picture, wide, bicubic, color="white")
        else:
            picture = picture.resize(wide, bicubic)
    array = np.array(picture)
    return torch.from_numpy(array[None] if channels == 1 else array.transpose(2, 0, 1).copy())


def in_threads(work: Callable[[int], Any], numbers: Iterable[int]) -> list[Any]:
    """Map over numbers in threads (Pillow lets go of the interpreter while it decodes), results in order."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, numbers))


class Pictures:
    """Pictures decoded when indexed: ``pictures[index]`` is uint8 (B, C, H, W).

    Args:
        names: What to call each picture in an error.
        reader: From a number to that file, open for reading.
        size: Height and width that all are brought to, or None: all must have one size.
        resize: How: cut the middle, pad with white, or stretch.
        origin: What to call the whole in an error.
    """

    def __init__(
        self,
        names: Sequence[str],
        reader: Callable[[int], BinaryIO],
        size: int | tuple[int, int] | None,
        resize: Resize,
        origin: str,
    ) -> None:
        self.names, self.reader = names, reader
        self.resize: Resize = resize
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"resolution is {size}: pictures are brought to a height and width of 1 or more")

        def one(number: int) -> tuple[int, int, str]:
            with reader(number) as file:
                return look(names[number], file)

        seen = in_threads(one, range(len(names)))
        if self.size is None and len({(height, width) for height, width, _ in seen}) > 1:
            first = seen[0][:2]
            other = next(i for i, (height, width, _) in enumerate(seen) if (height, width) != first)
            raise InputError(
                f"{origin}: pictures differ in size, {names[0]} is {first[1]}x{first[0]} and {names[other]} is "
                f"{seen[other][1]}x{seen[other][0]}: set resolution=64 or the like, "
                "and resize='crop', 'pad' or 'stretch'"
            )
        height, width = self.size or seen[0][:2]
        self.shape = (len(names), 1 if all(mode in GREY_MODES for *_, mode in seen) else 3, height, width)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Tensor) -> Tensor:
        channels = self.shape[1]

        def one(number: int) -> Tensor:
            with self.reader(number) as file:
                return decode(self.names[number], file, channels, self.size, self.resize)

        return torch.stack(in_threads(one, index.tolist()))

    def loaded(self, memory_gb: float) -> Tensor | Pictures:
        """All pictures decoded into one tensor if that takes at most `memory_gb` gigabytes; else these."""
        if float(np.prod(self.shape, dtype=np.float64)) > memory_gb * 1e9:
            return self
        everything = torch.empty(self.shape, dtype=torch.uint8)
        for start in range(0, len(self), 1024):
            index = torch.arange(start, min(start + 1024, len(self)))
            everything[index] = self[index]
        return everything
