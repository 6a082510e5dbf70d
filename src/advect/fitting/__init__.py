"""Whatever runs a model to find numbers, and the parts that it leaves."""

from advect.fitting.base import Fit
from advect.fitting.bellman import FitBellman, bellman_costs, even_path
from advect.fitting.gibbs_scale import FitGibbsScale

__all__ = ["Fit", "FitBellman", "FitGibbsScale", "bellman_costs", "even_path"]
