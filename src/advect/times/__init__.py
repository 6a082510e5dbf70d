"""When: time densities for training and grids for sampling."""

from advect.times.base import Grid, TimeDensity
from advect.times.densities import Uniform
from advect.times.grids import TimeGrid

__all__ = ["Grid", "TimeDensity", "TimeGrid", "Uniform"]
