"""Transition matching: a chain of few stochastic transitions, each drawn by a light head on one backbone call.

Measured on eight Gaussians in the plane and on handwritten digits against flow matching, at equal backbone calls and at
equal calls of backbone and head together; with token-by-token kernels on the digits as 16 tokens of 2x2.
"""

from __future__ import annotations

from advect import guidance, networks, oracles
from advect.interpolants import IndependentChain, LinearChain
from advect.networks import FieldKernel, HistoryKernel, MLPKernel, PlainHead, PrefixKernel
from advect.objectives import ARTM, DTM, FHTM
from advect.solvers import ChainSolver
from advect.systems.framework import System, in_turn
from advect.systems.transition_matching import digits, plane, tokens

SYSTEM = System(
    slug="transition-matching",
    title="Transition matching",
    paper="Shaul, Singer, Gat, Lipman: Transition Matching: Scalable and Flexible Generative Modeling, NeurIPS 2025",
    arxiv="2506.23589",
    purpose="Draws data in a few stochastic transitions: one backbone call each, and a light head that draws the rest.",
    seats={
        "interpolant": (LinearChain, IndependentChain),
        "objective": (DTM, ARTM, FHTM),
        "network": (MLPKernel, networks.DiTKernel, FieldKernel, PrefixKernel, HistoryKernel),
        "head": (PlainHead, networks.AdaLNHead),
        "solver": (ChainSolver,),
        "guidance": (guidance.GuidedKernel,),
        "oracle": (oracles.GaussianKernel, oracles.ExactKernel),
    },
    claims=(*plane.CLAIMS, *digits.CLAIMS, *tokens.CLAIMS),
    experiment=in_turn(plane.measure, digits.measure, tokens.measure),
)
