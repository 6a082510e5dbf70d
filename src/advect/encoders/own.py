"""The user's own extractor: any callable, or a class with safetensors weights."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from advect.encoders.base import Extractor, prepare
from advect.errors import InputError
from advect.files import load_tensors


class Wrapped(Extractor):
    """Any callable from images to features, with a name.

    It is made at run time, from an object, and so cannot stand in a config.

    Args:
        function: Takes (B, channels, H, W), normalised as the next arguments say, and returns (B, d).
        name: What figures are labelled with.
        version: The version of its weights.
        size: Height and width to resize to; None keeps those of the images.
        channels: Channels it takes; grey images are repeated.
        mean: What is subtracted from images in [-1, 1], by channel. An ImageNet mean m in [0, 1] is 2 m - 1 here.
        std: What they are then divided by, by channel. An ImageNet spread s in [0, 1] is 2 s here.
        inception: You vouch that this is the Inception-v3 of FID, pool3 features and its resizing: figures are then
            called FID and KID.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        name: str,
        version: str = "",
        size: int | None = None,
        channels: int = 3,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        inception: bool = False,
    ) -> None:
        super().__init__()
        if not name:
            raise InputError("name is empty: an extractor has a name, because every figure carries it")
        self.function = function
        self._name, self._weights_version = name, version
        self.size, self.channels = size, channels
        self.mean, self.std = tuple(mean), tuple(std)
        self.inception = inception  # pyright: ignore[reportAttributeAccessIssue]
        self.freeze()

    @property
    def name(self) -> str:
        return self._name if self.size is None else f"{self._name}@{self.size}px"

    @property
    def version(self) -> str:
        return self._weights_version

    def features(self, images: Tensor) -> Tensor:
        out = self.function(prepare(images, self.size, self.channels, self.mean, self.std))
        if not isinstance(out, torch.Tensor) or out.ndim != 2 or out.shape[0] != images.shape[0]:
            what = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise InputError(f"the extractor {self.name} returned {what}, but features have shape (B, d)")
        return out


def own_extractor(
    class_path: str,
    weights: str | os.PathLike[str],
    name: str,
    init_args: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Wrapped:
    """Build your own network (Inception, DINOv2, ...) from its class and a safetensors file.

    This imports and runs the module that you name. It is for code that you wrote or trust; nothing that is read from a
    checkpoint leads here.

    Args:
        class_path: Importable ``module.Class`` of an nn.Module that maps images to (B, d).
        weights: Its state dict as safetensors.
        name: What figures are labelled with.
        init_args: Arguments of the class.
        **settings: The further arguments of :class:`Wrapped`.

    Raises:
        InputError: If the class cannot be found, or the weights do not fit it.
    """
    module, _, attribute = class_path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"class_path is {class_path!r}, which cannot be imported: {error}") from error
    net = cls(**dict(init_args or {}))
    if not isinstance(net, nn.Module):
        raise InputError(f"class_path is {class_path!r}, which is no torch.nn.Module")
    try:
        net.load_state_dict(load_tensors(weights))
    except RuntimeError as error:
        raise InputError(f"the weights {weights} do not fit {class_path}: {error}") from error
    return Wrapped(net, name, **settings)
