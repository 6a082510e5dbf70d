"""When: time densities for training and grids for sampling."""

from advect.times.base import Grid, TimeDensity
from advect.times.bellman import BellmanGrid, bellman_path, bellman_values
from advect.times.densities import CosMap, EDMLogNormal, FiniteSet, LogitNormal, Mode, ShiftedTimes, Uniform, UShaped
from advect.times.grids import BetaGrid, CustomGrid, EDMGrid, LogSNRGrid, Reversed, ShiftedGrid, TimeGrid
from advect.times.pairs import ClippedPairs, SortedPairs, TimePairs

__all__ = [
    "BellmanGrid",
    "BetaGrid",
    "ClippedPairs",
    "CosMap",
    "CustomGrid",
    "EDMGrid",
    "EDMLogNormal",
    "FiniteSet",
    "Grid",
    "LogSNRGrid",
    "LogitNormal",
    "Mode",
    "Reversed",
    "ShiftedGrid",
    "ShiftedTimes",
    "SortedPairs",
    "TimeDensity",
    "TimeGrid",
    "TimePairs",
    "UShaped",
    "Uniform",
    "bellman_path",
    "bellman_values",
]
