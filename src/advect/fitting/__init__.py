"""Whatever runs a model to find numbers, and the parts that it leaves."""

from advect.fitting.base import Fit
from advect.fitting.bellman import FitBellman, bellman_costs, even_path
from advect.fitting.gibbs_scale import FitGibbsScale
from advect.fitting.guidance_ratio import FitRAAG, RatioCurve, alpha_for, ratio_curve
from advect.fitting.prior_weights import FitPriorWeights, velocity_errors
from advect.fitting.pruned_axes import (
    FitPrunedSource,
    largest_cosines,
    principal_axes,
    rejected_axes,
    sides,
    unit_vectors,
)

__all__ = [
    "Fit",
    "FitBellman",
    "FitGibbsScale",
    "FitPriorWeights",
    "FitPrunedSource",
    "FitRAAG",
    "RatioCurve",
    "alpha_for",
    "bellman_costs",
    "even_path",
    "largest_cosines",
    "principal_axes",
    "ratio_curve",
    "rejected_axes",
    "sides",
    "unit_vectors",
    "velocity_errors",
]
