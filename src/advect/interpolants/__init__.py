"""Which way: paths from source to data."""

from advect.interpolants.affine import AffineInterpolant, Coefficients, Pair
from advect.interpolants.base import Interpolant, Point
from advect.interpolants.conversions import KINDS, Kind
from advect.interpolants.cosine import Cosine
from advect.interpolants.edm import EDMCoefficients, EDMPreconditioning
from advect.interpolants.linear import Linear
from advect.interpolants.polynomial import Polynomial
from advect.interpolants.scaled import Scaled
from advect.interpolants.shifted import Shifted, shift_time
from advect.interpolants.sub_vp import SubVP
from advect.interpolants.variance_exploding import VE
from advect.interpolants.variance_preserving import VPSDE, LinearVP

__all__ = [
    "KINDS",
    "VE",
    "VPSDE",
    "AffineInterpolant",
    "Coefficients",
    "Cosine",
    "EDMCoefficients",
    "EDMPreconditioning",
    "Interpolant",
    "Kind",
    "Linear",
    "LinearVP",
    "Pair",
    "Point",
    "Polynomial",
    "Scaled",
    "Shifted",
    "SubVP",
    "shift_time",
]
