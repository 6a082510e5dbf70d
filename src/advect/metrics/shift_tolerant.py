"""ST-LPIPS, a perceptual distance that hardly notices a shift by a pixel; its weights come with an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advect.errors import InputError, require
from advect.files import sha256

SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
LEAST = 22  # pixels on a side, below which the fourth blur has nothing to mirror

# name of the convolution in the file, its padding, whether a pooling with blur comes before it
LAYERS = (("slice2.5", 2), ("slice3.9", 1))
LAST = (("slice4.11", 1), ("slice5.13", 1))


class STLPIPS(nn.Module):
    r"""Shift-tolerant LPIPS (AlexNet): sum over layers of the mean over pixels of w . (f(x)/|f(x)| - f(y)/|f(y)|)^2.

    It is another distance than LPIPS, with other weights, and its numbers are not comparable with those of LPIPS.
    The extra ``perceptual`` installs ``stlpips-pytorch`` (BSD licence), which carries the weights. Its code needs
    torchvision, so the network is laid out here, and the file, a torch archive, is opened only if its SHA-256 is the
    one recorded here, with ``weights_only=True``: nothing but tensors is read from it.

    Raises:
        MissingExtra: If the package is not installed.
        InputError: If its file is another one.

    Source: A. Ghildyal, F. Liu, Shift-tolerant Perceptual Similarity Metric, ECCV 2022, arXiv 2207.13686.
    """

    def __init__(self) -> None:
        super().__init__()
        package = require("stlpips_pytorch", "perceptual", "the perceptual distance ST-LPIPS")
        path = Path(str(package.__file__)).parent / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
        if not path.is_file() or sha256(path) != SHA256:
            raise InputError(f"{path} is not the file that advect knows: install stlpips-pytorch 0.0.2 again")
        weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "_"), value)
        self.eval()

    @property
    def name(self) -> str:
        """What figures are labelled with."""
        return "ST-LPIPS[alex]"

    @torch.no_grad()
    def forward(self, x: Tensor, truth: Tensor) -> Tensor:
        """Distance of each picture to the true one, (B,); pictures (B, 1 or 3, H, W) in [-1, 1], 22 pixels or more."""
        if x.shape != truth.shape or x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[-2:]) < LEAST:
            raise InputError(
                f"pictures have shapes {tuple(x.shape)} and {tuple(truth.shape)}: ST-LPIPS takes two (B, 1 or 3, H, W) "
                f"alike, of {LEAST} pixels a side or more"
            )
        total = torch.zeros(len(x), device=x.device)
        for i, (a, b) in enumerate(zip(self._features(x.float()), self._features(truth.float()), strict=True)):
            weight = self.get_buffer(f"lin{i}_model_1_weight")
            total = total + F.conv2d((_unit(a) - _unit(b)).square(), weight).mean((1, 2, 3))
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        get = self.get_buffer
        x = (x.expand(-1, 3, -1, -1) - get("scaling_layer_shift")) / get("scaling_layer_scale")
        x = F.conv2d(x, get("net_slice1_0_weight"), get("net_slice1_0_bias"), padding=2)
        x = F.relu(_blurred(x, get("net_slice1_1_filt")))
        out = [x]
        for (name, padding), filt in zip(LAYERS, ("slice2.4", "slice3.8"), strict=True):
            x = _blurred(F.max_pool2d(x, 3, stride=1), get(f"net_{filt}_filt".replace(".", "_")))
            x = F.relu(self._convolved(x, name, padding))
            out.append(x)
        for name, padding in LAST:
            x = F.relu(self._convolved(x, name, padding))
            out.append(x)
        return out

    def _convolved(self, x: Tensor, name: str, padding: int) -> Tensor:
        key = f"net_{name}_".replace(".", "_")
        return F.conv2d(x, self.get_buffer(f"{key}weight"), self.get_buffer(f"{key}bias"), padding=padding)


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    """A binomial blur with stride 2 on the picture mirrored by two pixels."""
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)
