"""What is regressed."""

from advect.objectives.adaptive import AdaptiveNorm
from advect.objectives.base import Loss, Networks, Objective
from advect.objectives.flow_matching import FlowMatching
from advect.objectives.mean_flow import MeanFlow
from advect.objectives.split import SplitMeanFlow
from advect.objectives.stochastic import InterpolantLoss, VelocityAndScore
from advect.objectives.target_guidance import TargetGuidance
from advect.objectives.transition import ARTM, DTM, FHTM
from advect.objectives.weights import CosMapWeight, EDMWeight, MinSNR, TimeWeight

__all__ = [
    "ARTM",
    "DTM",
    "FHTM",
    "AdaptiveNorm",
    "CosMapWeight",
    "EDMWeight",
    "FlowMatching",
    "InterpolantLoss",
    "Loss",
    "MeanFlow",
    "MinSNR",
    "Networks",
    "Objective",
    "SplitMeanFlow",
    "TargetGuidance",
    "TimeWeight",
    "VelocityAndScore",
]
