"""The score of a stochastic path, worn by a network that predicts the latent's mean eta = E[z|x]."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from advect.broadcasting import as_time
from advect.errors import InputError
from advect.interpolants import StochasticInterpolant
from advect.networks.base import Network
from advect.parts import ModulePart


class EtaScore(ModulePart):
    r"""s(x, t) = -eta(x, t) / gamma(t), for the role "score" of a Flow.

    Objectives compare eta itself (:meth:`output`), which stays finite at the ends; solvers ask for the score. Sample
    on a grid that stops short of t=0 and t=1, where gamma is 0.

    Args:
        network: The network that predicts eta; its `spec` is this field's.
        interpolant: The path it is trained on.

    Raises:
        InputError: If the path has no latent.

    Source: arXiv 2303.08797, section 2.3 and remark on the parameterisation by eta; its code has the other sign.
    """

    def __init__(self, network: Network, interpolant: StochasticInterpolant) -> None:
        super().__init__()
        if not isinstance(interpolant, StochasticInterpolant):
            raise InputError(
                f"the path is {type(interpolant).__name__}, which has no latent z, so eta = E[z|x] is not defined: "
                "take StochasticInterpolant"
            )
        self.network, self.interpolant = network, interpolant
        self.spec = network.spec

    def forward(self, x: Tensor, t: Tensor | float, **cond: Any) -> Tensor:
        """The score at (x, t), shape of x."""
        return self.interpolant.score_of(self.output(x, t, **cond), t)

    def output(self, x: Tensor, t: Tensor | float, **cond: Any) -> Tensor:
        """eta at (x, t), shape of x."""
        return self.network(x, as_time(t, x), **cond)
