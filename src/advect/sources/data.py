"""Stored samples as the source: one data set is carried to another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import randint, randn_like
from advect.sources.base import Source
from advect.sources.densities import mixture_log_prob, mixture_score


class FromData(ModulePart, Source):
    r"""x0 = a stored sample, drawn with replacement, + noise * z.

    Made by :meth:`fit`: ``FromData(noise=0.01).fit(x)``. The samples are a buffer and are saved with the Flow, so that
    it can be sampled anywhere. Data that bring x0 with every batch (``TwoDomains``) need this source for sampling
    alone.

    Args:
        size: Number of stored samples; set by :meth:`fit`.
        shape: Shape of one sample; set by :meth:`fit`.
        noise: Standard deviation of Gaussian noise added to each draw, in units of the data. Above 0 the source has a
            density (N Gaussians) and a score, and stored points are not mapped one to one.
    """

    samples: Tensor

    def __init__(self, size: int = 0, shape: tuple[int, ...] = (), noise: float = 0.0) -> None:
        super().__init__()
        if size < 0 or not 0 <= noise < math.inf:
            raise InputError(f"size={size}, noise={noise}: a source from data needs size >= 0 and finite noise >= 0")
        self.size, self.shape, self.noise = size, tuple(shape), noise
        self.register_buffer("samples", torch.zeros(size, *shape))

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> FromData:
        """The source of these samples (N, *shape), as a new part of x1's type on x1's device.

        Raises:
            InputError: If x1 is empty or holds values that are not finite.
        """
        if x1.ndim < 1 or x1.shape[0] == 0:
            raise InputError(f"x1 has shape {tuple(x1.shape)}: a source from data needs at least one sample")
        if not bool(torch.isfinite(x1).all()):
            raise InputError("x1 holds NaN or infinity: remove the broken samples before using them as a source")
        fitted = FromData(x1.shape[0], tuple(x1.shape[1:]), self.noise)
        fitted.samples = x1.detach().clone()
        return fitted

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
        if self.size == 0:
            raise InputError("FromData holds no samples: make it by FromData().fit(x)")
        if tuple(shape[1:]) != self.shape:
            raise InputError(f"shape is {tuple(shape)}, but the stored samples have shape {self.shape}")
        index = randint(self.size, (shape[0],), generator, device=self.samples.device)
        x0 = self.samples[index].to(device, dtype)
        return x0 if self.noise == 0 else x0 + self.noise * randn_like(x0, generator)

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        return mixture_log_prob(x0, *self._mixture(x0)) if self.noise > 0 and self.size else None

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        return mixture_score(x0, *self._mixture(x0)) if self.noise > 0 and self.size else None

    def _mixture(self, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        means = self.samples.to(x0).flatten(1)
        return means, means.new_full((self.size,), self.noise), means.new_full((self.size,), -math.log(self.size))
