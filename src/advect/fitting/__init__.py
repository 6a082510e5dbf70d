"""Whatever runs a model to find numbers, and the parts that it leaves."""

from advect.fitting.base import Fit
from advect.fitting.bellman import FitBellman, bellman_costs, even_path
from advect.fitting.gibbs_scale import FitGibbsScale
from advect.fitting.guidance_ratio import FitRAAG, RatioCurve, alpha_for, ratio_curve

__all__ = [
    "Fit",
    "FitBellman",
    "FitGibbsScale",
    "FitRAAG",
    "RatioCurve",
    "alpha_for",
    "bellman_costs",
    "even_path",
    "ratio_curve",
]
