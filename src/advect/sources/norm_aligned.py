r"""A Gaussian source as long, on average, as the data.

The norm of z ~ N(0, I_d) has mean sqrt(2) Gamma((d+1)/2) / Gamma(d/2), about sqrt(d - 1/2): 55.42 for pictures of
3x32x32, whose data in [-1, 1] are about 27 long.
"""

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
from advect.sources.gaussian import Gaussian


def chi_mean(dimension: int) -> float:
    r"""E|z| for z ~ N(0, I_d): sqrt(2) Gamma((d+1)/2) / Gamma(d/2), from the logarithms, which do not overflow.

    Args:
        dimension: d, at least 1.
    """
    if dimension < 1:
        raise InputError(f"dimension is {dimension}: a state has at least 1 coordinate")
    return math.sqrt(2.0) * math.exp(math.lgamma((dimension + 1) / 2) - math.lgamma(dimension / 2))


def aligned_scale(x1: Tensor) -> float:
    """c = E|x1| / E|z|: what a unit Gaussian is multiplied by to be as long as the data (N, *shape) on average.

    Raises:
        InputError: If there are no data, or they are all 0 or not finite.
    """
    if x1.ndim < 2 or x1.shape[0] == 0:
        raise InputError(f"x1 has shape {tuple(x1.shape)}: a mean norm needs at least one sample (N, *shape)")
    flat = x1.flatten(1)
    norm = float(torch.linalg.vector_norm(flat.double(), dim=1).mean())
    if not 0 < norm < math.inf:
        raise InputError(f"the data have the mean norm {norm}: look for NaN, infinity, or samples that are all 0")
    return norm / chi_mean(flat.shape[1])


class NormAligned(ModulePart, Source):
    r"""x0 = c z, z ~ N(0, I), with c = E|x1| / E|z| found on the data.

    Training finds c once, on encoded data, pooled over all conditions, and it is saved with the Flow: the same c serves
    sampling. The source is Gaussian with standard deviation c, so scores, SDEs and likelihoods work.

    On the straight path this is a plain Gaussian source at the shifted times t / (t + c (1 - t)), with rescaled states
    (:class:`~advect.interpolants.SourceScaled`): what differs is at which noise levels a network is trained and
    stepped.

    Source: Lee, Kim, Lee, "Is There a Better Source Distribution than Gaussian?", TMLR 2025. The published code holds
    the measured 55.4185 instead of the closed form (55.4211 for d = 3072), and forgets the scale when it prunes.
    """

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.zeros((), dtype=torch.float64))
        self._known: float | None = None

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> NormAligned:
        """Find c on data (N, *shape), in place.

        Raises:
            InputError: If the data have no mean norm above 0.
        """
        self.scale = torch.tensor(aligned_scale(x1), dtype=torch.float64, device=self.scale.device)
        self._known = None
        return self

    @property
    def std(self) -> float:
        """c; 0 before it was found."""
        if self._known is None:  # one look at the device, not one per draw
            self._known = float(self.scale)
        return self._known

    @property
    def fitted(self) -> bool:
        return self.std > 0

    def _law(self) -> Gaussian:
        if not self.fitted:
            raise InputError("NormAligned has no scale yet: training finds it, or call fit(x1) on encoded data")
        return Gaussian(self.std)

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
        return randn(shape, generator, dtype=dtype, device=device) * self._law().std

    @property
    def gaussian(self) -> tuple[float, float] | None:
        return (0.0, self.std) if self.fitted else None

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        return self._law().score(x0)

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        return self._law().log_prob(x0)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._known = None
        super()._load_from_state_dict(*args, **kwargs)
