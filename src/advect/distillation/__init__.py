"""How a flow is shortened: reflow, and distillation to k steps."""

from advect.distillation.distances import Distance, Mixed, Perceptual, SquaredError
from advect.distillation.flow_source import FlowSource
from advect.distillation.k_step import KStep, OneStepEncoder
from advect.distillation.reflow import OnlineReflow, reflow_transport
from advect.distillation.straighten import SegmentRegression, straight_transport

__all__ = [
    "Distance",
    "FlowSource",
    "KStep",
    "Mixed",
    "OneStepEncoder",
    "OnlineReflow",
    "Perceptual",
    "SegmentRegression",
    "SquaredError",
    "reflow_transport",
    "straight_transport",
]
