"""When: time densities for training and grids for sampling."""

from advect.times.base import Grid, TimeDensity
from advect.times.densities import Uniform
from advect.times.grids import BetaGrid, CustomGrid, EDMGrid, LogSNRGrid, Reversed, ShiftedGrid, TimeGrid

__all__ = [
    "BetaGrid",
    "CustomGrid",
    "EDMGrid",
    "Grid",
    "LogSNRGrid",
    "Reversed",
    "ShiftedGrid",
    "TimeDensity",
    "TimeGrid",
    "Uniform",
]
