"""RAAG: a guidance scale that follows the ratio of the gap between two predictions to their length.

Measured on a mixture whose imperfect conditional model is known in closed form, and on handwritten digits with wrong
labels, against five other rules over as many settings each; compared are fronts at equal accuracy, not best points.
"""

from __future__ import annotations

from advect.conditions import ClassLabel, Conditions
from advect.fitting import FitRAAG, alpha_for, ratio_curve
from advect.flow import Flow
from advect.guidance import APG, CFG, RAAG, AutoGuidance, CFGZeroStar, Guided, Interval, Rescale
from advect.metrics import compare_fronts, energy_distance, pareto_front
from advect.oracles import GaussianMixture
from advect.solvers import Euler
from advect.systems.framework import System, in_turn
from advect.systems.raag import digits, mixture
from advect.training import train

SYSTEM = System(
    slug="raag",
    title="RAAG",
    paper="Zhu, Peng, Hu, Yang, Zhang, Pu, Zheng, Shu, Feng, Cheng: RAAG: Ratio Aware Adaptive Guidance, 2025",
    arxiv="2508.03442",
    purpose="Guides few-step sampling with a scale that falls where conditional and null velocity lie far apart.",
    seats={
        "guidance": (RAAG, CFG, Interval, CFGZeroStar, APG, Rescale, AutoGuidance, Guided),
        "fitting": (FitRAAG, ratio_curve, alpha_for),
        "conditions": (Conditions, ClassLabel),
        "solver": (Euler,),
        "metrics": (pareto_front, compare_fronts, energy_distance),
        "oracles": (GaussianMixture,),
        "training": (train,),
        "flow": (Flow,),
    },
    claims=(*mixture.CLAIMS, *digits.CLAIMS),
    experiment=in_turn(mixture.measure, digits.measure),
)
