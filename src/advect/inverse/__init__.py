"""Inverse problems: operators, methods that restore with a frozen field as prior, and what they are made of."""

from advect.inverse import operators
from advect.inverse.base import Ends, InverseMethod, Problem, Restoration, relative_residual
from advect.inverse.consistency import Consistency
from advect.inverse.d_flow import DFlow
from advect.inverse.flair import Flair
from advect.inverse.flow_chef import FlowChef
from advect.inverse.flow_dps import FlowDPS
from advect.inverse.operators import Operator
from advect.inverse.ot_ode import OTODE
from advect.inverse.pnp_flow import PnPFlow
from advect.inverse.renoise import FixedShare, Renoise, TrajectoryAdjustment
from advect.inverse.replacement import Replacement
from advect.inverse.restoring import restore
from advect.inverse.tiling import Tiled
from advect.inverse.weights import CalibratedWeights, ConstantShare, ConstantWeight, PriorWeights

__all__ = [
    "OTODE",
    "CalibratedWeights",
    "Consistency",
    "ConstantShare",
    "ConstantWeight",
    "DFlow",
    "Ends",
    "FixedShare",
    "Flair",
    "FlowChef",
    "FlowDPS",
    "InverseMethod",
    "Operator",
    "PnPFlow",
    "PriorWeights",
    "Problem",
    "Renoise",
    "Replacement",
    "Restoration",
    "Tiled",
    "TrajectoryAdjustment",
    "operators",
    "relative_residual",
    "restore",
]
