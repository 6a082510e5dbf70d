"""SplitMeanFlow and MeanFlow: average velocities, and with them samples in one network call.

Measured on the ring of eight Gaussians, where the exact field and so the exact flow map are known, and on handwritten
digits with classes, beside the teacher's Euler steps and beside distillation from its pairs. Every arm is tuned over as
many settings, on other noise and other samples than those reported.
"""

from __future__ import annotations

from advect import couplings, interpolants, objectives, sources, times
from advect.guidance import CFG
from advect.networks import MLP, DiT, UNet
from advect.objectives import MeanFlow, SplitMeanFlow
from advect.solvers import FlowMapJumps
from advect.systems.framework import System, in_turn
from advect.systems.split_meanflow import digits, ring
from advect.training import make_pairs, reflow, train

SYSTEM = System(
    slug="split-meanflow",
    title="SplitMeanFlow and MeanFlow",
    paper="Guo et al.: SplitMeanFlow: Interval Splitting Consistency in Few-Step Generative Modeling, 2025; "
    "Geng et al.: Mean Flows for One-step Generative Modeling, 2025",
    arxiv="2507.16884",
    purpose="Learns average velocities, from a teacher or from scratch, so that one network call is a sample.",
    seats={
        "source": (sources.Gaussian,),
        "coupling": (couplings.Independent,),
        "interpolant": (interpolants.Linear,),
        "objective": (SplitMeanFlow, MeanFlow, objectives.AdaptiveNorm, objectives.TargetGuidance),
        "times": (times.SortedPairs, times.ClippedPairs),
        "network": (MLP, UNet, DiT),
        "solver": (FlowMapJumps,),
        "guidance": (CFG,),
        "training": (train, reflow, make_pairs),
    },
    claims=(*ring.CLAIMS, *digits.CLAIMS),
    experiment=in_turn(ring.measure, digits.measure),
)
