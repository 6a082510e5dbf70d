"""Weighted flow matching: the straightness of transport couplings from weights on independent pairs.

Measured on the plane (a Gaussian to eight Gaussians) at three scales beside independent and exactly paired training, on
handwritten digits and on photographs of clothes, with what the weights tilt, which is their price. On real pictures the
scale is the elbow of the tilt variance, found before anything is trained.
"""

from __future__ import annotations

from advect.couplings import GibbsWeights, Independent, MinibatchOT
from advect.diagnostics import straightness, tilt_of
from advect.fitting import FitGibbsScale
from advect.interpolants import Linear
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.solvers import RK4, Euler, Heun
from advect.sources import Gaussian
from advect.systems.framework import System, in_turn
from advect.systems.weighted_cfm import digits, plane, price
from advect.training import train

SYSTEM = System(
    slug="weighted-cfm",
    title="Weighted conditional flow matching",
    paper="Calvo-Ordonez, Meunier, Cartea, Reisinger, Gal, Hernandez-Lobato: Weighted Conditional Flow Matching, 2025",
    arxiv="2507.22270",
    purpose="Straightens a flow by weighting independent pairs, for a norm per pair and with a bias that it measures.",
    seats={
        "source": (Gaussian,),
        "coupling": (GibbsWeights, Independent, MinibatchOT),
        "interpolant": (Linear,),
        "objective": (FlowMatching,),
        "network": (MLP,),
        "solver": (Euler, Heun, RK4),
        "diagnostics": (tilt_of, straightness),
        "fitting": (FitGibbsScale,),
        "training": (train,),
    },
    claims=(*plane.CLAIMS, *digits.CLAIMS, *price.CLAIMS),
    experiment=in_turn(plane.measure, plane.measure_step, digits.measure, price.measure_bias, price.measure_tilts),
)
