"""What pages of systems are made of, and how their experiments are run."""

from advect.systems.framework.base import Claim, Rule, Setting, System, in_turn
from advect.systems.framework.claims import bounded, compared
from advect.systems.framework.figures import Figure, Figures, distance_to
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
    judged_digits,
    shipped_flow,
    small_grey,
    with_nearest,
)
from advect.systems.framework.tuned import Tuned, settings_table

__all__ = [
    "Claim",
    "Curves",
    "Figure",
    "Figures",
    "Measured",
    "Outcome",
    "Pictures",
    "Rule",
    "Scatter",
    "Setting",
    "System",
    "Table",
    "Tuned",
    "all_images",
    "all_labels",
    "bounded",
    "compared",
    "digits_network",
    "distance_to",
    "held_out",
    "images_of",
    "in_turn",
    "judged_digits",
    "points_of",
    "settings_table",
    "shipped_flow",
    "small_grey",
    "with_nearest",
]
