"""The Principles of Diffusion Models: one reference of schedules, conversions, solvers and flow maps.

Measured are the errors of every solver against its calls, on a mixture whose velocity is known and on a flow trained on
handwritten digits.
"""

from __future__ import annotations

from advect import guidance, interpolants, sources, times
from advect.couplings import Independent
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.solvers import DormandPrince
from advect.systems.framework import System, in_turn
from advect.systems.principles import digits, laws, mixture
from advect.systems.principles.rules import SOLVERS, STOCHASTIC

SYSTEM = System(
    slug="principles",
    title="The Principles of Diffusion Models",
    paper="Lai, Song, Kim, Mitsufuji, Ermon: The Principles of Diffusion Models, 2025",
    arxiv="2510.21890",
    purpose="One reference of schedules, conversions between predictions, solvers, guidance and flow maps.",
    seats={
        "source": (sources.Gaussian,),
        "coupling": (Independent,),
        "interpolant": (
            interpolants.Linear,
            interpolants.Cosine,
            interpolants.LinearVP,
            interpolants.Polynomial,
            interpolants.VPSDE,
            interpolants.SubVP,
            interpolants.VE,
            interpolants.Scaled,
            interpolants.Shifted,
        ),
        "objective": (FlowMatching,),
        "network": (MLP,),
        "times": (times.TimeGrid, times.LogSNRGrid, times.EDMGrid, times.ShiftedGrid, times.BetaGrid, times.CustomGrid),
        "solver": (*dict.fromkeys(type(s) for s in (*SOLVERS.values(), *STOCHASTIC.values())), DormandPrince),
        "guidance": (guidance.CFG,),
    },
    claims=(*mixture.CLAIMS, *digits.CLAIMS),
    experiment=in_turn(mixture.measure, laws.measure, digits.measure),
)
