r"""Directions crowded around a mean: the von Mises-Fisher law, density proportional to exp(kappa <mu, u>) on |u| = 1.

A proposal is made of one Gaussian z: its share s = <mu, z>/|z| and its part across mu are independent. With

    b = (d - 1) / (2 kappa + sqrt(4 kappa^2 + (d - 1)^2)),  e = (1 - b)/(1 + b),  w = (1 - (1 + b) y)/(1 - (1 - b) y),
    y = (1 - s)/2,   w accepted where  kappa (w - e) + (d - 1) log((1 - e w)/(1 - e^2)) >= log U

(Wood 1994, with the Beta variable y from the Gaussian), the draw is w mu + sqrt(1 - w^2) (z across mu, of length 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import rand, randn
from advect.sources.base import Source
from advect.sources.rejection import first_accepted

_ROUNDS = 1000  # Wood's acceptance stays above .65 in any dimension: never reached


def mean_cosine(dimension: int, kappa: float) -> float:
    r"""E <mu, u> = I_{d/2}(kappa) / I_{d/2-1}(kappa), by its continued fraction, which does not overflow.

    R_nu = kappa / (2 (nu + 1) + kappa R_{nu+1}),   nu = d/2 - 1.

    Args:
        dimension: d, at least 2.
        kappa: Concentration, at least 0.
    """
    depth = int(2 * kappa + dimension) + 100  # the fraction forgets its start long before
    ratio = 0.0
    for nu in range(depth, -1, -1):
        ratio = kappa / (dimension + 2 * nu + kappa * ratio)
    return ratio


def sample_around(mean: Tensor, kappa: float, generator: torch.Generator | None = None) -> Tensor:
    """One von Mises-Fisher draw around each mean direction.

    Args:
        mean: Unit vectors (B, d), d at least 2.
        kappa: Concentration, at least 0; 0 is uniform.
        generator: Where numbers come from.

    Returns:
        Unit vectors (B, d), of the means' type and device.
    """
    d = mean.shape[1]
    b = (d - 1) / (2 * kappa + math.sqrt(4 * kappa**2 + (d - 1) ** 2))
    e = (1 - b) / (1 + b)

    def propose(index: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        mu = mean if index is None else mean[index]
        z = randn(mu.shape, generator, dtype=mu.dtype, device=mu.device)
        u = rand((len(mu),), generator, dtype=torch.float64, device=mu.device)
        along = (z * mu).sum(1, keepdim=True)
        across = z - along * mu
        width = torch.linalg.vector_norm(across, dim=1, keepdim=True)
        # from both legs, so that rounding leaves |s| <= 1; 1 - w^2 as a product, so that it stays above 0
        leg, length = along[:, 0].double(), torch.hypot(along, width)[:, 0].double()
        y = 0.5 - 0.5 * leg / length
        over = 1 - (1 - b) * y
        w, sine = (1 - (1 + b) * y) / over, math.sqrt(b) * (width[:, 0].double() / length) / over
        kept = kappa * (w - e) + (d - 1) * (torch.log1p(-e * w) - math.log1p(-e * e)) >= u.log()
        # a proposal along the mean has no direction across it, and is drawn again
        return w.to(mu)[:, None] * mu + sine.to(mu)[:, None] * (across / width), kept & (width[:, 0] > 0)

    return first_accepted(propose, generator, _ROUNDS)[0]


def directions(x: Tensor, what: str = "x1") -> Tensor:
    """The directions (B, d) of samples (B, *shape).

    Raises:
        InputError: If a state has fewer than 2 coordinates, or a sample has no direction.
    """
    flat = x.flatten(1)
    if flat.shape[1] < 2:
        raise InputError(f"{what} has shape {tuple(x.shape)}: directions need at least 2 coordinates")
    norm = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / torch.where(norm > 0, norm, torch.nan)


def check_kappa(kappa: float) -> None:
    """Refuse a concentration that is none."""
    if not 0 <= kappa < math.inf:
        raise InputError(f"kappa is {kappa}: the concentration is finite and at least 0")


class VonMisesFisher(ModulePart, Source):
    r"""x0 on the unit sphere, around one direction, or around each sample's own x1.

    Around x1 (the oracle) it serves training and comparison alone, since it reads the data. Put it into a
    :class:`ChiSphere` to make it as long as a Gaussian.

    Args:
        kappa: Concentration, at least 0; the mean cosine is :func:`mean_cosine`.
        mean: The mean direction, d numbers of any length above 0; None for the direction of x1.

    Source: Wood, Communications in Statistics 23 (1994); Lee, Kim, Lee, TMLR 2025 (kappa 1500 and 3000 for d=3072).
    """

    def __init__(self, kappa: float = 1500.0, mean: tuple[float, ...] | None = None) -> None:
        super().__init__()
        check_kappa(kappa)
        self.kappa = float(kappa)
        if mean is not None and not 0 < math.hypot(*mean) < math.inf:
            raise InputError(f"mean is {mean}: a direction is finite and not 0")
        self.mean = None if mean is None else tuple(m / math.hypot(*mean) for m in mean)

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
        if self.mean is not None:
            if math.prod(shape[1:]) != len(self.mean):
                raise InputError(f"shape is {tuple(shape)}, but the mean direction has {len(self.mean)} coordinates")
            mean = torch.tensor(self.mean, dtype=dtype, device=device).expand(shape[0], -1)
        elif x1 is None:
            raise InputError("VonMisesFisher reads x1 as its mean: give mean= for a source that can be sampled")
        else:
            mean = directions(x1).to(device, dtype)
        return sample_around(mean, self.kappa, generator).reshape(tuple(shape))

    @property
    def needs_x1(self) -> bool:
        return self.mean is None
