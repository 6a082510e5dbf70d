"""Pixels that are seen and pixels that are not."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advect.errors import InputError, require
from advect.inverse.operators.base import Operator, Shape, picture_sides
from advect.randomness import generator, rand


class Inpainting(Operator):
    r"""The observed pixels of all channels as one flat vector: A A' = I, and A' y fills the hole with zeros.

    Only observed pixels are measurements, so means over the measurement do not depend on the size of the hole.
    """

    @abstractmethod
    def observed(self, height: int, width: int) -> Tensor:
        """Which pixels are seen: bool (H, W)."""

    @property
    def gram(self) -> float | None:
        return 1.0

    def output_shape(self, shape: Shape) -> Shape:
        height, width = picture_sides(self, shape)
        seen = int(self.observed(height, width).sum())
        if seen == 0:
            raise InputError(
                f"{type(self).__name__} hides every pixel of a {width}x{height} picture: leave some to see"
            )
        return (shape[0] * seen,)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)[:, :, self._index(x)].flatten(1)

    def adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        channels, height, width = shape
        empty = y.new_zeros(len(y), channels, height * width)
        index = self._index(y.new_empty(1, 1, height, width))
        return empty.index_copy(2, index, y.reshape(len(y), channels, -1)).reshape(-1, *shape)

    def measurement_of(self, shown: Tensor) -> Tensor:
        return self(shown)

    def _index(self, x: Tensor) -> Tensor:
        return self.observed(x.shape[-2], x.shape[-1]).flatten().nonzero()[:, 0].to(x.device)


class Box(Inpainting):
    """A box of pixels is hidden.

    Args:
        top: First hidden row.
        left: First hidden column.
        height: Hidden rows.
        width: Hidden columns.
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].

    Raises:
        InputError: If the box is empty, or does not lie inside the picture.
    """

    def __init__(self, top: int, left: int, height: int, width: int, noise: float = 0.01) -> None:
        super().__init__(noise)
        if min(height, width) < 1 or min(top, left) < 0:
            raise InputError(f"the box is {width}x{height} at row {top}, column {left}: give sides of at least 1")
        self.top, self.left, self.height, self.width = top, left, height, width

    def observed(self, height: int, width: int) -> Tensor:
        if self.top + self.height > height or self.left + self.width > width:
            raise InputError(
                f"the box of {self.width}x{self.height} at row {self.top}, column {self.left} leaves the picture of "
                f"{width}x{height}: make it smaller or move it"
            )
        seen = torch.ones(height, width, dtype=torch.bool)
        seen[self.top : self.top + self.height, self.left : self.left + self.width] = False
        return seen


class Strokes(Inpainting):
    """A free-form hole: straight brush strokes, drawn until a share of the picture is hidden.

    Args:
        share: Share of the picture to hide, in (0, 1).
        brush: Width of a stroke, as a share of the shorter side.
        seed: The same seed hides the same pixels of pictures of one size.
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].
    """

    def __init__(self, share: float = 0.3, brush: float = 0.12, seed: int = 0, noise: float = 0.01) -> None:
        super().__init__(noise)
        if not (0 < share < 1 and 0 < brush < 1):
            raise InputError(f"share is {share} and brush {brush}: both lie between 0 and 1")
        self.share, self.brush, self.seed = share, brush, seed
        self._drawn: dict[tuple[int, int], Tensor] = {}  # methods ask at every data step

    def observed(self, height: int, width: int) -> Tensor:
        if (height, width) not in self._drawn:
            self._drawn[height, width] = self._draw(height, width)
        return self._drawn[height, width]

    def _draw(self, height: int, width: int) -> Tensor:
        numbers = generator(self.seed, "strokes", height, width)
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        seen = torch.ones(height, width, dtype=torch.bool)
        radius = max(0.5, self.brush * min(height, width) / 2)
        while float(seen.float().mean()) > 1 - self.share:
            y0, x0, y1, x1 = (rand((4,), numbers) * torch.tensor([height, width, height, width])).tolist()
            # distance of each pixel to the segment
            length = max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-9)
            along = (((rows - y0) * (y1 - y0) + (columns - x0) * (x1 - x0)) / length).clamp(0, 1)
            away = (rows - y0 - along * (y1 - y0)).square() + (columns - x0 - along * (x1 - x0)).square()
            seen &= away > radius**2
        return seen


class MaskFile(Inpainting):
    """A mask from a file: white (or True) is observed, black is hidden.

    Args:
        path: A picture, or a .npy file of booleans (H, W).
        noise: Standard deviation of the measurement's noise, pixels in [-1, 1].

    Raises:
        InputError: If the file is missing or no mask, or has another size than the picture.
    """

    mask: Tensor

    def __init__(self, path: str, noise: float = 0.01) -> None:
        super().__init__(noise)
        self.path = path
        self.register_buffer("mask", _read_mask(Path(path)))

    def observed(self, height: int, width: int) -> Tensor:
        if tuple(self.mask.shape) != (height, width):
            raise InputError(
                f"the mask {self.path} is {self.mask.shape[1]}x{self.mask.shape[0]} and the picture {width}x{height}: "
                "give a mask of the picture's size"
            )
        return self.mask


def _read_mask(path: Path) -> Tensor:
    if not path.is_file():
        raise InputError(f"there is no mask at {path}: give a picture, white where pixels are observed")
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise InputError(f"{path} is no .npy file of booleans ({error}): save the mask with numpy.save") from error
        if array.ndim != 2:
            raise InputError(f"the mask {path} has shape {array.shape}: give booleans (height, width)")
        if array.dtype != bool and len(np.unique(array)) > 2:
            raise InputError(f"the mask {path} holds numbers that are no yes or no: save booleans, like values > 0.5")
        return torch.from_numpy(array.astype(bool))
    image = require("PIL.Image", "images", "reading a mask")
    try:
        with image.open(path) as picture:
            return torch.from_numpy(np.asarray(picture.convert("L")) > 127)
    except OSError as error:
        raise InputError(f"{path} is no picture ({error}): give one, white where pixels are observed") from error
