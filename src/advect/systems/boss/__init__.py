"""BOSS: the best grid for a number of Euler steps, and straightening on exactly that grid.

Measured on a Gaussian in 64 dimensions whose map is known, on a ring where the criterion misleads, on the exact field
of digits, on flows trained on digits, and on the flow for emoji that ships with advect.
"""

from __future__ import annotations

from advect import couplings, interpolants, sources
from advect.data import StoredSegments
from advect.distillation import KStep, SegmentRegression
from advect.fitting import FitBellman, bellman_costs
from advect.networks import MLP, LoRA
from advect.solvers import Euler, Heun
from advect.systems.boss import digits, emoji, known_maps, trained
from advect.systems.framework import System, in_turn
from advect.times import BellmanGrid, EDMGrid
from advect.training import make_segments, reflow, straighten

SYSTEM = System(
    slug="boss",
    title="BOSS",
    paper="Nguyen, Nguyen, Nguyen: Bellman Optimal Stepsize Straightening of Flow-Matching Models, ICLR 2024",
    arxiv="2312.16414",
    purpose="The best time grid for a number of Euler steps of any flow, without training, and straightening on it.",
    seats={
        "source": (sources.Gaussian,),
        "coupling": (couplings.Independent, couplings.Paired),
        "interpolant": (interpolants.Linear,),
        "times": (BellmanGrid, EDMGrid),
        "fitting": (FitBellman, bellman_costs),
        "distillation": (SegmentRegression, KStep),
        "data": (StoredSegments,),
        "network": (MLP, LoRA),
        "solver": (Euler, Heun),
        "training": (make_segments, straighten, reflow),
    },
    claims=(*known_maps.CLAIMS, *trained.CLAIMS, *digits.CLAIMS, *emoji.CLAIMS),
    experiment=in_turn(known_maps.measure, trained.measure, digits.measure, emoji.measure),
)
