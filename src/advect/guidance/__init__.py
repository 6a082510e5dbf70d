"""How it is steered."""

from advect.guidance.base import Guidance
from advect.guidance.guided import Guided
from advect.guidance.guided_kernel import GuidedKernel
from advect.guidance.projected import APG, CFGZeroStar
from advect.guidance.raag import RAAG, guidance_ratio
from advect.guidance.rules import CFG, AutoGuidance, Interval, Rescale
from advect.guidance.tokens import TokenRescale

__all__ = [
    "APG",
    "CFG",
    "RAAG",
    "AutoGuidance",
    "CFGZeroStar",
    "Guidance",
    "Guided",
    "GuidedKernel",
    "Interval",
    "Rescale",
    "TokenRescale",
    "guidance_ratio",
]
