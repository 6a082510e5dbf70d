"""What is regressed."""

from advect.objectives.base import Loss, Networks, Objective
from advect.objectives.flow_matching import FlowMatching
from advect.objectives.stochastic import InterpolantLoss, VelocityAndScore
from advect.objectives.weights import CosMapWeight, EDMWeight, MinSNR, TimeWeight

__all__ = [
    "CosMapWeight",
    "EDMWeight",
    "FlowMatching",
    "InterpolantLoss",
    "Loss",
    "MinSNR",
    "Networks",
    "Objective",
    "TimeWeight",
    "VelocityAndScore",
]
