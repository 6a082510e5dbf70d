r"""The seat "which noise is put back": how much of the predicted source end is kept when a picture is noised again.

eps = alpha n + sqrt(1 - alpha^2) z, with n the source end that the field predicted one time earlier and z fresh: eps
has unit variance if both have. The trajectory adjustment of FLAIR is alpha = t: at first all noise is fresh, at the end
the predicted one is kept, so that the picture stops jumping between modes.

Source: arXiv 2506.02680, section 3.3 and the released code's `alpha` variants (there in tau = 1 - t).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from advect.errors import InputError
from advect.parts import Part


class Renoise(Part, ABC):
    """A rule t -> alpha in [0, 1]."""

    @abstractmethod
    def alpha(self, t: float) -> float:
        """The share of the carried noise at time t."""

    def __call__(self, carried: Tensor, fresh: Tensor, t: float) -> Tensor:
        """alpha carried + sqrt(1 - alpha^2) fresh."""
        alpha = self.alpha(t)
        return alpha * carried + math.sqrt(max(0.0, 1 - alpha * alpha)) * fresh


@dataclass(frozen=True)
class TrajectoryAdjustment(Renoise):
    r"""alpha = (scale s)^power with s = t, or s = 1 - t as some released variants have it.

    Args:
        scale: Factor, in [0, 1].
        power: Exponent, above 0; 1/2 and 2 are released variants.
        of: "t" (more is kept as data come near) or "tau" = 1 - t (less and less is kept).
    """

    scale: float = 1.0
    power: float = 1.0
    of: Literal["t", "tau"] = "t"

    def __post_init__(self) -> None:
        if not (0 <= self.scale <= 1 and self.power > 0):
            raise InputError(f"scale is {self.scale} and power {self.power}: give a scale in [0, 1], a power above 0")

    def alpha(self, t: float) -> float:
        return (self.scale * (t if self.of == "t" else 1 - t)) ** self.power


@dataclass(frozen=True)
class FixedShare(Renoise):
    """The same alpha at all times. 0 is plain re-noising; a large one carries early mistakes along.

    Args:
        share: alpha, in [0, 1].
    """

    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InputError(f"share is {self.share}: the share of carried noise lies in [0, 1]")

    def alpha(self, t: float) -> float:
        return self.share
