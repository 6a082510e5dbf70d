"""Which way: paths from source to data."""

from advect.interpolants.affine import AffineInterpolant, Coefficients
from advect.interpolants.base import Interpolant, Point
from advect.interpolants.linear import Linear

__all__ = ["AffineInterpolant", "Coefficients", "Interpolant", "Linear", "Point"]
