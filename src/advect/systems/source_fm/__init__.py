"""Better sources for flow matching of images: as long as the data, and without directions that no data face.

Measured where it can be understood (a plane with the radii of pictures, one side of it empty, and the control in which
none is), with the sources that the paper predicts to fail; on digits; and on a flow that ships, which is not retrained.
"""

from __future__ import annotations

from advect import solvers, sources, times
from advect.couplings import Independent, MinibatchOT
from advect.distillation import FlowSource
from advect.fitting import FitPrunedSource
from advect.interpolants import Linear, SourceScaled
from advect.networks import MLP
from advect.objectives import FlowMatching
from advect.solvers import Euler
from advect.sources import ChiSphere, NormAligned, PrunedSource, VonMisesFisher
from advect.systems.framework import System, in_turn
from advect.systems.source_fm import digits, emoji, plane
from advect.times import ShiftedGrid, ShiftedTimes, Uniform

SYSTEM = System(
    slug="source-fm",
    title="SourceFM",
    paper="Lee, Kim, Lee: Is There a Better Source Distribution than Gaussian? Exploring Source Distributions for "
    "Image Flow Matching, TMLR 2025",
    arxiv="OpenReview sev0GtV1fc",
    purpose="Starts image flows from noise as long as the data and away from directions that no data face.",
    seats={
        "source": (
            NormAligned,
            PrunedSource,
            ChiSphere,
            sources.Gaussian,
            VonMisesFisher,
            sources.ClusterVonMisesFisher,
            sources.FittedMixture,
            sources.MaskedFrequencies,
            FlowSource,
        ),
        "coupling": (Independent, MinibatchOT),
        "interpolant": (Linear, SourceScaled),
        "objective": (FlowMatching,),
        "times": (Uniform, ShiftedTimes, ShiftedGrid, times.TimeGrid),
        "fitting": (FitPrunedSource,),
        "network": (MLP,),
        "solver": (Euler, solvers.Heun),
    },
    claims=(*plane.CLAIMS, *digits.CLAIMS, *emoji.CLAIMS),
    experiment=in_turn(plane.measure, digits.measure, emoji.measure),
)
