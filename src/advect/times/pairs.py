r"""Pairs of training times r <= t for models of average velocity. Convention: t=0 source, t=1 data.

x is given at the start r, the noisier of the two; a model u(x, r, t) is trained on the jump to the end t. A share of
every batch has r = t, where u is the velocity itself: these samples tie the model to the data.

Published recipes state noise levels, 1 minus our times: a logit-normal level of mean m is a time of mean -m, and the
larger level is the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import Part
from advect.randomness import rand
from advect.times.base import TimeDensity
from advect.times.densities import LogitNormal

Choice = Literal["first", "random"]


class TimePairs(Part, ABC):
    """The joint distribution of the two times of an average velocity.

    `boundary` is the share of samples with r = t, and `choice` says which these are.
    """

    boundary: float
    choice: Choice

    @abstractmethod
    def draw(
        self, n: int, generator: torch.Generator | None, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> tuple[Tensor, Tensor]:
        """n pairs r <= t, (n,) each, before a share of them is set to r = t."""

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        dropped: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw n pairs (r, t) in [0, 1] with r <= t, shape (n,) each.

        Args:
            n: How many.
            generator: Feeds every draw.
            dtype: Type of the times.
            device: Where they are.
            dropped: Bool (n,), which samples have lost their conditions; with `choice` "first" they come first.
        """
        r, t = self.draw(n, generator, dtype, device)
        if self.boundary == 0.0:
            return r, t
        if self.choice == "random":
            same = rand((n,), generator, device=device) < self.boundary
        else:
            place = torch.arange(n, device=device)
            if dropped is not None:
                place = torch.argsort(torch.argsort((~dropped).to(torch.uint8), stable=True))
            same = place < self._count(n)
        return r, torch.where(same, r, t)

    def jumps(self, n: int) -> int | None:
        """How many of n samples have r < t where that is known beforehand, else None.

        It is at most n - 1 unless `boundary` is 0: a model that never sees r = t never sees the data.
        """
        if self.boundary == 0.0:
            return n
        return n - self._count(n) if self.choice == "first" else None

    def split(self, r: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers of the samples with r = t, and of those with r < t, which a derivative is worked out for.

        With `choice` "first" their counts are known, and nothing is read back from the device.
        """
        same = r >= t
        count = self.jumps(r.shape[0])
        if count is None:
            return torch.nonzero(same).flatten(), torch.nonzero(~same).flatten()
        order = torch.argsort(same.to(torch.uint8), stable=True)
        return order[count:], order[:count]

    def _count(self, n: int) -> int:
        return max(1, int(self.boundary * n))

    def _check(self) -> None:
        if not 0.0 <= self.boundary <= 1.0:
            raise InputError(f"boundary is {self.boundary}: the share of samples with r = t lies in [0, 1]")
        if self.choice not in ("first", "random"):
            raise InputError(f"choice is {self.choice!r}: choose first or random")


@dataclass(frozen=True)
class SortedPairs(TimePairs):
    r"""Two independent times of one density; r is the smaller, t the larger.

        a, b ~ density,   r = min(a, b),   t = max(a, b),   and t = r for a share of the samples

    Args:
        times: Density of either time.
        boundary: Share of samples with r = t.
        choice: "first" takes the first int(boundary * n) of the batch, samples that have lost their conditions before
            all others: then nothing is learnt of unconditional averages, and the number of samples that need a
            derivative is known beforehand. "random" draws every sample.

    Source: arXiv 2505.13447, section 4.3 and table 4. ImageNet: ``SortedPairs(LogitNormal(0.4, 1.0), 0.75)``, drawn in
    the official code from the front of the batch, where its dropped labels are too. CIFAR-10:
    ``SortedPairs(LogitNormal(2.0, 2.0), 0.25, "random")``.
    """

    times: TimeDensity = LogitNormal(0.4, 1.0)
    boundary: float = 0.75
    choice: Choice = "first"

    def __post_init__(self) -> None:
        self._check()

    def draw(
        self, n: int, generator: torch.Generator | None, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> tuple[Tensor, Tensor]:
        a, b = (self.times.sample(n, generator, dtype=dtype, device=device) for _ in range(2))
        return torch.minimum(a, b), torch.maximum(a, b)


@dataclass(frozen=True)
class ClippedPairs(TimePairs):
    r"""A start and an end of different densities; an end before the start is moved to the start.

        r ~ start,   t = max(r, end),   and t = r for a share of the samples

    So more than `boundary` of all samples have r = t: with the defaults about 30 %.

    Args:
        start: Density of the start.
        end: Density of the end.
        boundary: Share of samples with r = t, before ends are moved.
        choice: Which these are, as in :class:`SortedPairs`.

    Source: the second version of the published CIFAR-10 code of MeanFlow (py-meanflow), noise levels with means -0.6
    and -4.0, both of spread 1.6.
    """

    start: TimeDensity = LogitNormal(0.6, 1.6)
    end: TimeDensity = LogitNormal(4.0, 1.6)
    boundary: float = 0.25
    choice: Choice = "random"

    def __post_init__(self) -> None:
        self._check()

    def draw(
        self, n: int, generator: torch.Generator | None, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> tuple[Tensor, Tensor]:
        start, end = (d.sample(n, generator, dtype=dtype, device=device) for d in (self.start, self.end))
        return start, torch.maximum(start, end)
