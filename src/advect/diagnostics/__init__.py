"""What a flow does to its coupling: transport costs, straightness, crossing paths, and densities on a grid."""

from advect.diagnostics.convergence import ErrorAtCost, error_against_calls, measured_order
from advect.diagnostics.costs import CostBalance, cost_balance, nonintersection, straightness, transport_cost
from advect.diagnostics.histograms import histogram, histogram_kl, normal_kl
from advect.diagnostics.rounding import round_tensor, rounded
from advect.diagnostics.tilt import Tilt, tilt_of

__all__ = [
    "CostBalance",
    "ErrorAtCost",
    "Tilt",
    "cost_balance",
    "error_against_calls",
    "histogram",
    "histogram_kl",
    "measured_order",
    "nonintersection",
    "normal_kl",
    "round_tensor",
    "rounded",
    "straightness",
    "tilt_of",
    "transport_cost",
]
