"""FLAIR: restoration of degraded pictures with a frozen flow as prior.

Measured where the answer is known, on a mixture whose exact posterior samples are drawn beside (a hole and a twofold
reduction of 8x8 pictures), and on photographs that the prior never saw (a hole and a fourfold reduction of 32x32). Six
baselines run in the same frame, each tuned over as many settings as FLAIR, on other pictures than those measured.
"""

from __future__ import annotations

from advect import conditions, guidance, interpolants
from advect.fitting import FitPriorWeights, velocity_errors
from advect.flow import Flow
from advect.inverse import (
    OTODE,
    CalibratedWeights,
    Consistency,
    DFlow,
    Flair,
    FlowChef,
    FlowDPS,
    PnPFlow,
    Problem,
    Replacement,
    Tiled,
    TrajectoryAdjustment,
    operators,
    restore,
)
from advect.systems.flair import mixture, photographs
from advect.systems.framework import System, in_turn

SYSTEM = System(
    slug="flair",
    title="FLAIR",
    paper="Erbach, Narnhofer, Dombos, Schiele, Lenssen, Schindler: Solving Inverse Problems with FLAIR, 2025",
    arxiv="2506.02680",
    purpose="Restores degraded pictures (holes, reductions, blur) with a frozen flow as prior, without training.",
    seats={
        "inverse": (Flair, Consistency, TrajectoryAdjustment, CalibratedWeights, Problem, Tiled, restore),
        "operator": (
            operators.Box,
            operators.Strokes,
            operators.MaskFile,
            operators.AverageDown,
            operators.BicubicDown,
            operators.GaussianBlur,
            operators.MotionBlur,
            operators.RandomProjections,
            operators.Denoising,
        ),
        "baselines": (FlowDPS, FlowChef, PnPFlow, DFlow, OTODE, Replacement),
        "fitting": (FitPriorWeights, velocity_errors),
        "interpolant": (interpolants.Linear,),
        "conditions": (conditions.ClassLabel,),
        "guidance": (guidance.CFG,),
        "flow": (Flow,),
    },
    claims=(*mixture.CLAIMS, *photographs.CLAIMS),
    experiment=in_turn(mixture.measure, photographs.measure),
)
