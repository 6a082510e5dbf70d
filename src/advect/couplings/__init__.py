"""Who goes with whom: couplings of source and data."""

from advect.couplings.assignment import assign
from advect.couplings.base import Coupling, Pairs
from advect.couplings.gibbs import GibbsWeights
from advect.couplings.minibatch import MinibatchOT
from advect.couplings.simple import Independent, Paired
from advect.couplings.sinkhorn import Plan, SinkhornOT, sinkhorn

__all__ = [
    "Coupling",
    "GibbsWeights",
    "Independent",
    "MinibatchOT",
    "Paired",
    "Pairs",
    "Plan",
    "SinkhornOT",
    "assign",
    "sinkhorn",
]
