r"""How near a restored picture is to the true one, one number per picture: PSNR and SSIM.

Both are for pictures (B, C, H, W) in [-1, 1], so the range of values is 2. They reward blur where the measurement
leaves a choice; a posterior sample that looks right scores below the posterior's mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from advect.errors import InputError


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Peak signal to noise ratio in decibel, (B,): 10 log10(4 / mean square error); infinite where they agree."""
    _alike(x, truth)
    return 10 * torch.log10(4 / (x.double() - truth.double()).flatten(1).square().mean(1))


def ssim(x: Tensor, truth: Tensor, sigma: float = 1.5, side: int = 11) -> Tensor:
    r"""Structural similarity, (B,): the mean of the local index over all windows inside the picture and all channels.

        ((2 m_x m_y + c1)(2 s_xy + c2)) / ((m_x^2 + m_y^2 + c1)(s_x^2 + s_y^2 + c2)),  c1 = (0.01 L)^2, c2 = (0.03 L)^2

    Args:
        x: Pictures (B, C, H, W) in [-1, 1], so L = 2.
        truth: True pictures of the same shape.
        sigma: Standard deviation of the window in pixels.
        side: Side of the window.

    Raises:
        InputError: If shapes differ, or the pictures are smaller than the window.

    Source: Z. Wang et al., Image quality assessment, IEEE TIP 13 (2004), equation 13, with its Gaussian window.
    """
    _alike(x, truth)
    if min(x.shape[-2:]) < side:
        raise InputError(f"pictures are {x.shape[-1]}x{x.shape[-2]}, smaller than the window of SSIM ({side} pixels)")
    offsets = torch.arange(side, dtype=torch.float64, device=x.device) - (side - 1) / 2
    line = torch.exp(-0.5 * (offsets / sigma) ** 2)
    window = (line[:, None] * line / line.sum() ** 2)[None, None].expand(x.shape[1], 1, -1, -1)

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(z, window, groups=z.shape[1])

    a, b = x.double(), truth.double()
    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    index = (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return index.flatten(1).mean(1)


def _alike(x: Tensor, truth: Tensor) -> None:
    if x.shape != truth.shape or x.ndim != 4:
        raise InputError(f"pictures have shapes {tuple(x.shape)} and {tuple(truth.shape)}: give two (B, C, H, W) alike")
