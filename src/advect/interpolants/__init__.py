"""Which way: paths from source to data."""

from advect.interpolants.affine import AffineInterpolant, Coefficients, Pair
from advect.interpolants.base import Interpolant, Point
from advect.interpolants.chains import ChainPair, ChainProcess, IndependentChain, LinearChain, as_chain
from advect.interpolants.changed_path import ChangedPath
from advect.interpolants.conversions import KINDS, Kind
from advect.interpolants.cosine import Cosine
from advect.interpolants.edm import EDMCoefficients, EDMPreconditioning
from advect.interpolants.gammas import Brownian, Gamma, Quadratic, SigmoidBump, SinSquared, Zero
from advect.interpolants.linear import Linear
from advect.interpolants.polynomial import Polynomial
from advect.interpolants.scaled import Scaled
from advect.interpolants.shifted import Shifted, shift_time
from advect.interpolants.source_scaled import SourceScaled
from advect.interpolants.spatial import EncodeDecode, Mirror, Spatial, Straight, Trigonometric
from advect.interpolants.stochastic import Decomposition, StochasticInterpolant
from advect.interpolants.sub_vp import SubVP
from advect.interpolants.variance_exploding import VE
from advect.interpolants.variance_preserving import VPSDE, LinearVP

__all__ = [
    "KINDS",
    "VE",
    "VPSDE",
    "AffineInterpolant",
    "Brownian",
    "ChainPair",
    "ChainProcess",
    "ChangedPath",
    "Coefficients",
    "Cosine",
    "Decomposition",
    "EDMCoefficients",
    "EDMPreconditioning",
    "EncodeDecode",
    "Gamma",
    "IndependentChain",
    "Interpolant",
    "Kind",
    "Linear",
    "LinearChain",
    "LinearVP",
    "Mirror",
    "Pair",
    "Point",
    "Polynomial",
    "Quadratic",
    "Scaled",
    "Shifted",
    "SigmoidBump",
    "SinSquared",
    "SourceScaled",
    "Spatial",
    "StochasticInterpolant",
    "Straight",
    "SubVP",
    "Trigonometric",
    "Zero",
    "as_chain",
    "shift_time",
]
