"""What pages of systems are made of, and how their experiments are run."""

from advect.systems.framework.base import Claim, Rule, Setting, System
from advect.systems.framework.outcome import (
    Curves,
    Measured,
    Outcome,
    Pictures,
    Scatter,
    Table,
    images_of,
    points_of,
)

__all__ = [
    "Claim",
    "Curves",
    "Measured",
    "Outcome",
    "Pictures",
    "Rule",
    "Scatter",
    "Setting",
    "System",
    "Table",
    "images_of",
    "points_of",
]
