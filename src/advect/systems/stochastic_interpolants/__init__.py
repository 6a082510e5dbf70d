"""Stochastic interpolants: bridges between any two laws, sampled by an ODE or an SDE whose noise is chosen afterwards.

Measured with exact fields between Gaussians (no network, so that field errors and step errors stay apart), on a
checkerboard, and on handwritten digits.
"""

from __future__ import annotations

from advect import couplings, interpolants, solvers, sources
from advect.interpolants import Brownian, Linear, Mirror, StochasticInterpolant, Zero
from advect.networks import MLP, EtaScore
from advect.objectives import FlowMatching, InterpolantLoss, VelocityAndScore
from advect.solvers import ConstantNoise, EulerMaruyama, Heun, sde_log_prob
from advect.systems.framework import System, in_turn
from advect.systems.stochastic_interpolants import checkerboard, digits, exact

SYSTEM = System(
    slug="stochastic-interpolants",
    title="Stochastic interpolants",
    paper="Albergo, Boffi, Vanden-Eijnden: Stochastic Interpolants: A Unifying Framework, 2023",
    arxiv="2303.08797",
    purpose="Bridges any two densities, by an ODE or by an SDE whose noise level is chosen after training.",
    seats={
        "source": (sources.Gaussian, sources.FromData),
        "coupling": (couplings.Independent, couplings.SinkhornOT),
        "interpolant": (
            StochasticInterpolant,
            interpolants.Straight,
            interpolants.Trigonometric,
            interpolants.EncodeDecode,
            Mirror,
            Brownian,
            interpolants.Quadratic,
            interpolants.SinSquared,
            interpolants.SigmoidBump,
            Zero,
            Linear,
        ),
        "objective": (VelocityAndScore, InterpolantLoss, FlowMatching),
        "network": (MLP, EtaScore),
        "solver": (EulerMaruyama, solvers.StochasticHeun, solvers.DormandPrince, Heun),
        "noise level": (ConstantNoise, solvers.SourceNoise, solvers.SinSquaredNoise, solvers.ReverseNoise),
        "likelihood": (solvers.log_prob, sde_log_prob),
    },
    claims=(*checkerboard.CLAIMS, *exact.CLAIMS, *digits.CLAIMS),
    experiment=in_turn(exact.measure, checkerboard.measure, digits.measure),
)
