"""What a model is told beside state and time."""

from advect.conditions.base import Condition, Enters
from advect.conditions.conditions import Conditions
from advect.conditions.kinds import ClassLabel, Vector

__all__ = ["ClassLabel", "Condition", "Conditions", "Enters", "Vector"]
