"""What is regressed."""

from advect.objectives.base import Loss, Networks, Objective
from advect.objectives.flow_matching import FlowMatching

__all__ = ["FlowMatching", "Loss", "Networks", "Objective"]
