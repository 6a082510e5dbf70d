"""Rectified flow: straight flows by reflow, few steps by distillation.

Measured on the plane (a Gaussian to eight Gaussians), on handwritten digits, and between two sets of real pictures;
with the control that shows what matters: the same extra training on shuffled pairs.
"""

from __future__ import annotations

from advect import couplings, distillation, interpolants, solvers, sources, times
from advect.data import StoredPairs, TwoDomains
from advect.diagnostics import straightness
from advect.distillation import KStep, OnlineReflow
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.solvers import RK4, Euler, Heun
from advect.systems.framework import System, in_turn
from advect.systems.rectified_flow import digits, plane, transfer
from advect.training import make_pairs, reflow, reflow_online, train

SYSTEM = System(
    slug="rectified-flow",
    title="Rectified flow",
    paper="Liu, Gong, Liu: Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow, 2022",
    arxiv="2209.03003",
    purpose="Carries any data to any other along an ODE, and straightens it until one to four steps suffice.",
    seats={
        "source": (sources.Gaussian,),
        "coupling": (couplings.Independent, couplings.Paired),
        "interpolant": (interpolants.Linear,),
        "objective": (FlowMatching, OnlineReflow, KStep, distillation.OneStepEncoder),
        "data": (StoredPairs, TwoDomains),
        "times": (times.Uniform, times.LogitNormal, times.UShaped, times.FiniteSet),
        "network": (MLP,),
        "solver": (Euler, Heun, RK4, solvers.RectifiedSDE, solvers.Overshooting),
        "training": (train, make_pairs, reflow, reflow_online),
        "diagnostics": (straightness,),
    },
    claims=(*plane.CLAIMS, *digits.CLAIMS, *transfer.CLAIMS),
    experiment=in_turn(plane.measure, digits.measure, transfer.measure),
)
