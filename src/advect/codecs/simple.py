"""Codecs without networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advect.codecs.base import Codec
from advect.errors import InputError


class Identity(Codec):
    """State = data."""

    def __init__(self) -> None:
        super().__init__()

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z

    def log_abs_det(self, shape: tuple[int, ...]) -> float | None:
        return 0.0


class Standardize(Codec):
    """z = (x - shift) / scale, with `shift` and `scale` per feature (or one for all), fitted on data.

    Args:
        per_feature: Whether every coordinate has its own numbers, or all share one.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, per_feature: bool = True) -> None:
        super().__init__()
        self.per_feature = per_feature
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def fit(self, x: Tensor) -> Standardize:
        """Find shift and scale on data (N, *shape); a constant feature is an error that names it."""
        shift, scale = (x.mean(0), x.std(0)) if self.per_feature else (x.mean(), x.std())
        if bool((scale == 0).any()):
            where = (scale == 0).nonzero().tolist() if scale.ndim else "all"
            raise InputError(f"feature {where} of the data is constant: remove it, or use per_feature=False")
        self.shift, self.scale = shift.float(), scale.float()
        return self

    @property
    def fitted(self) -> bool:
        """Whether shift and scale were found; until then the state is the data."""
        return self.shift.ndim > 0 or bool(self.shift != 0) or bool(self.scale != 1)

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return (x - self.shift) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        return z * self.scale + self.shift

    def log_abs_det(self, shape: tuple[int, ...]) -> float | None:
        return -float(self.scale.cpu().double().log().expand(shape).sum())

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Buffers found by fitting take the file's shape."""
        for name in ("shift", "scale"):
            if (value := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
