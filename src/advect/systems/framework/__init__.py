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
from advect.systems.framework.pictures import (
    all_images,
    all_labels,
    digits_network,
    held_out,
    shipped_flow,
    small_grey,
    with_nearest,
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
    "all_images",
    "all_labels",
    "digits_network",
    "held_out",
    "images_of",
    "points_of",
    "shipped_flow",
    "small_grey",
    "with_nearest",
]
