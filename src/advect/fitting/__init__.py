"""Whatever runs a model to find numbers, and the parts that it leaves."""

from advect.fitting.base import Fit

__all__ = ["Fit"]
