r"""Gaussian pictures without the frequencies that the data do not use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import randn
from advect.sources.base import Source

# rows: luma, Cb, Cr of (R, G, B), BT.601
_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def cosine_basis(size: int, like: Tensor) -> Tensor:
    """The orthonormal cosine transform (DCT-II), (size, size), one frequency per row."""
    k = torch.arange(size, dtype=torch.float64, device=like.device)
    basis = torch.cos(math.pi * k[:, None] * (k + 0.5) / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis.to(like)


class MaskedFrequencies(ModulePart, Source):
    r"""x0 = M z, z ~ N(0, I), with M the pictures whose block frequencies are among those that the data use.

    On blocks of 8x8 pixels (as in JPEG), in luma and chroma, a frequency counts as unused where the data's mean is
    below .1 and its variance below `variance`, both in grey levels of 0..255; the source has none of it. Every channel
    is then scaled back to variance 1. The mask is found on the data, in [-1, 1], at the start of training.

    It is here as a comparison of the paper: a source that comes closer to the data's density, and does worse. It has no
    density (its covariance has no inverse), and no score.

    Args:
        variance: Variance below which a frequency is left out, in squared grey levels: 2 is "weak", 4 "strong".
        mean: Mean below which it is.
        block: Pixels per side of a block.

    Source: Lee, Kim, Lee, TMLR 2025, whose code also cuts the noise off at 3 standard deviations.
    """

    used: Tensor
    gain: Tensor

    def __init__(self, variance: float = 2.0, mean: float = 0.1, block: int = 8) -> None:
        super().__init__()
        if not variance > 0 or not mean > 0 or block < 1:
            raise InputError(f"variance={variance}, mean={mean}, block={block}: all of them are above 0")
        self.variance, self.mean, self.block = float(variance), float(mean), block
        self.register_buffer("used", torch.zeros(0, 0, 0))
        self.register_buffer("gain", torch.zeros(0))

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> MaskedFrequencies:
        """Find the frequencies in use on pictures (N, C, H, W) in [-1, 1], in place; C is 1 or 3."""
        self._check(tuple(x1.shape))
        coefficients = self._analyse(_to_luma(x1)) * 127.5  # (N, C, H/b, W/b, b, b), in grey levels
        coefficients[:, 0, :, :, 0, 0] += 127.5 * self.block  # luma 0..255 has its middle where the state is 0
        mean, variance = coefficients.mean((0, 2, 3)), coefficients.var((0, 2, 3), unbiased=False)
        self.used = (~((mean.abs() < self.mean) & (variance < self.variance))).to(x1.dtype)
        if not bool(self.used.any()):
            raise InputError(f"no frequency of the data has a variance of {self.variance}: lower `variance`")
        # a linear map of white noise: its variance per channel is the mean square of its rows
        probe = torch.eye(x1.shape[1] * self.block**2, dtype=torch.float64, device=x1.device)
        self.gain = torch.ones(x1.shape[1], dtype=x1.dtype, device=x1.device)
        spread = self._mask(probe.reshape(-1, x1.shape[1], self.block, self.block).to(x1.dtype)).square().sum(0)
        self.gain = spread.mean((1, 2)).rsqrt().nan_to_num(posinf=1.0)
        return self

    @property
    def fitted(self) -> bool:
        return len(self.used) > 0

    def sample(
        self,
        shape: Sequence[int],
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        *,
        rows: Tensor | None = None,
        x1: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        if not self.fitted:
            raise InputError("MaskedFrequencies has no mask yet: training finds it, or call fit(x1)")
        self._check(tuple(shape))
        if shape[1] != len(self.used):
            raise InputError(f"shape is {tuple(shape)}, but the mask was fitted to {len(self.used)} channels")
        return self._mask(randn(shape, generator, dtype=dtype, device=self.used.device if device is None else device))

    def _mask(self, z: Tensor) -> Tensor:
        kept = self._analyse(_to_luma(z)) * self.used.to(z)[:, None, None]
        return _from_luma(self._synthesise(kept)) * self.gain.to(z)[:, None, None]

    def _analyse(self, x: Tensor) -> Tensor:
        """Frequencies of the blocks, (N, C, H/b, W/b, b, b)."""
        basis = cosine_basis(self.block, x)
        blocks = x.unfold(2, self.block, self.block).unfold(3, self.block, self.block)
        return basis @ blocks @ basis.T

    def _synthesise(self, frequencies: Tensor) -> Tensor:
        basis = cosine_basis(self.block, frequencies)
        blocks = basis.T @ frequencies @ basis
        n, c, h, w, b, _ = blocks.shape
        return blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, c, h * b, w * b)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or shape[1] not in (1, 3) or shape[2] % self.block or shape[3] % self.block:
            raise InputError(
                f"shape is {shape}: block frequencies are there for pictures (N, 1 or 3, H, W) whose sides are "
                f"multiples of {self.block}"
            )

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """What was fitted takes the file's shape."""
        for name in ("used", "gain"):
            if (value := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _to_luma(x: Tensor) -> Tensor:
    return x if x.shape[1] == 1 else torch.einsum("kc,nchw->nkhw", torch.tensor(_YCBCR).to(x), x)


def _from_luma(y: Tensor) -> Tensor:
    if y.shape[1] == 1:
        return y
    return torch.einsum("ck,nkhw->nchw", torch.linalg.inv(torch.tensor(_YCBCR, dtype=torch.float64)).to(y), y)
