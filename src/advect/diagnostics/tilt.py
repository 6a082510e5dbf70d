r"""What the weights of a coupling do: how much they tilt its two ends, and how many samples they leave.

The velocity learned from weighted pairs belongs to q prop. w mu nu. Data are tilted to nu E[w|x1], and sampling starts
from mu instead of mu E[w|x0]: both are errors of what is generated, and both are measured here on pairs alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from advect.couplings import GibbsWeights
from advect.couplings.tilt import effective_share, spread, tilt_variance


class Tilt(NamedTuple):
    """What weights do to a coupling.

    Attributes:
        source: Var(T) / E[T]^2 of T(x0) = E w over all partners; 0 leaves the marginal as it is.
        data: The same of T(x1).
        ess: Effective sample size (sum w)^2 / sum w^2 as a share of all pairs.
        source_std: Standard deviation over x0 of the mean log weight given x0.
        data_std: The same over x1.
        interaction_std: Standard deviation of what neither end explains.
        interaction_share: Share of the variance of the log weights that neither end explains: near 0 the weight only
            reweights each end (say by its norm), and is no coupling.
    """

    source: float
    data: float
    ess: float
    source_std: float
    data_std: float
    interaction_std: float
    interaction_share: float


@torch.no_grad()
def tilt_of(coupling: GibbsWeights, x0: Tensor, x1: Tensor) -> Tilt:
    """Measure a coupling on all pairs of two samples.

    Args:
        coupling: With its scale: given, or found by `fit`.
        x0: Draws of the source, (n, *shape); a thousand or two will do, the work is n m.
        x1: Draws of the data, (m, *shape), in the states that are trained on.
    """
    log_weight = coupling.log_weights(x0, x1)
    source, data = tilt_variance(log_weight)
    parts = spread(log_weight)
    return Tilt(float(source), float(data), float(effective_share(log_weight)), *parts, parts.interaction_share)
