"""The seats of a training and the members that are combined: small, and made anew for every cell."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from advect.couplings import GibbsWeights, Independent, MinibatchOT, Paired, SinkhornOT
from advect.distillation import KStep, OneStepEncoder, OnlineReflow, SegmentRegression
from advect.guidance import APG, CFG, RAAG, AutoGuidance, CFGZeroStar, Interval, Rescale, TokenRescale
from advect.interpolants import (
    VE,
    VPSDE,
    Cosine,
    IndependentChain,
    Linear,
    LinearChain,
    LinearVP,
    Polynomial,
    Scaled,
    Shifted,
    SourceScaled,
    StochasticInterpolant,
    SubVP,
)
from advect.networks import MLP, AdaLNHead, DiT, DiTKernel, HistoryKernel, MLPKernel, PrefixKernel, UNet
from advect.objectives import (
    ARTM,
    DTM,
    FHTM,
    FlowMatching,
    InterpolantLoss,
    MeanFlow,
    MinSNR,
    SplitMeanFlow,
    VelocityAndScore,
)
from advect.solvers import (
    AB2,
    DDIM,
    RK4,
    AncestralDDIM,
    ChainSolver,
    DormandPrince,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    EDMHeun,
    Euler,
    EulerLast,
    EulerMaruyama,
    FlowMapJumps,
    Heun,
    Midpoint,
    Overshooting,
    Perturbed,
    RectifiedSDE,
    SDEDPMpp,
    SourceNoise,
    StochasticHeun,
    UniPC,
)
from advect.sources import (
    ChiSphere,
    ClusterVonMisesFisher,
    FittedMixture,
    FromData,
    Gaussian,
    GaussianMixture,
    MaskedFrequencies,
    Mixture,
    NormAligned,
    PrunedSource,
    StudentT,
    VonMisesFisher,
)

SHAPE = (3, 4, 4)
CLASSES = 3


def _from_data() -> FromData:
    return FromData(noise=0.1).fit(torch.randn(9, *SHAPE, generator=torch.Generator().manual_seed(3)))


small = functools.partial
AXES: dict[str, dict[str, Callable[..., Any] | None]] = {
    "objective": {
        "FlowMatching": FlowMatching,
        "FlowMatching in x1": small(FlowMatching, weight=MinSNR()),
        "InterpolantLoss": small(InterpolantLoss, "b"),
        "VelocityAndScore": small(VelocityAndScore, "b", "eta"),
        "MeanFlow": MeanFlow,
        "SplitMeanFlow": SplitMeanFlow,
        "DTM": DTM,
        "ARTM": ARTM,
        "FHTM": FHTM,
        "KStep": small(KStep, 2),
        "OneStepEncoder": OneStepEncoder,
        "OnlineReflow": OnlineReflow,
        "SegmentRegression": SegmentRegression,
    },
    "interpolant": {
        "Linear": Linear,
        "Cosine": Cosine,
        "LinearVP": LinearVP,
        "VPSDE": VPSDE,
        "SubVP": SubVP,
        "VE": VE,
        "Polynomial": Polynomial,
        "Scaled": small(Scaled, Linear(), 2.0),
        "SourceScaled": small(SourceScaled, Linear(), 0.5),
        "Shifted": small(Shifted, Linear(), 3.0),
        "StochasticInterpolant": StochasticInterpolant,
        "LinearChain": LinearChain,
        "IndependentChain": IndependentChain,
    },
    "coupling": {
        "Independent": Independent,
        "MinibatchOT": MinibatchOT,
        "SinkhornOT": SinkhornOT,
        "GibbsWeights": small(GibbsWeights, 5.0),
        "Paired": Paired,
    },
    "source": {
        "Gaussian": Gaussian,
        "Gaussian of another spread": small(Gaussian, 2.0, 0.5),
        "GaussianMixture": small(GaussianMixture, ((0.0, 0.0), (1.0, 1.0))),
        "Mixture": small(Mixture, (Gaussian(1.0, -1.0), Gaussian(1.0, 1.0))),
        "FromData": _from_data,
        "NormAligned": NormAligned,
        "ChiSphere": ChiSphere,
        "PrunedSource": PrunedSource,
        "StudentT": small(StudentT, 6.0),
        "VonMisesFisher around the data": small(VonMisesFisher, 50.0),
        "ClusterVonMisesFisher": small(ClusterVonMisesFisher, 2, 50.0),
        "FittedMixture": small(FittedMixture, 1, 1e-2, 3),
        "MaskedFrequencies": small(MaskedFrequencies, block=2),
    },
    "prediction": dict.fromkeys(("v", "x1", "x0", "score", "F", "trigflow")),
    "network": {
        "MLP": small(MLP, hidden=(8,)),
        "UNet": small(UNet, width=8, multipliers=(1, 2), blocks=1, attention=()),
        "DiT": small(DiT, depth=1, width=16, heads=2, patch=2),
        "MLPKernel": small(MLPKernel, hidden=(8,), patch=2),
        "DiTKernel": small(DiTKernel, depth=1, width=16, heads=2, patch=2, head=AdaLNHead(1, 16)),
        "PrefixKernel": small(PrefixKernel, depth=1, width=16, heads=2, patch=2, head=AdaLNHead(1, 16)),
        "HistoryKernel": small(HistoryKernel, depth=1, width=16, heads=2, patch=2, head=AdaLNHead(1, 16)),
    },
    "guidance": {
        "none": None,
        "CFG": CFG,
        "Interval": small(Interval, CFG(), 0.2, 0.8),
        "Rescale": Rescale,
        "TokenRescale": small(TokenRescale, patch=1),
        "CFGZeroStar": CFGZeroStar,
        "APG": APG,
        "RAAG": RAAG,
        "AutoGuidance": AutoGuidance,
    },
    "solver": {
        "as trained": None,
        "Euler": Euler,
        "Midpoint": Midpoint,
        "Heun": Heun,
        "EulerLast": small(EulerLast, Heun()),
        "RK4": RK4,
        "AB2": AB2,
        "DDIM": DDIM,
        "DPMpp2S": DPMpp2S,
        "DPMpp2M": DPMpp2M,
        "DPMpp3M": DPMpp3M,
        "UniPC": UniPC,
        "EDMHeun": EDMHeun,
        "DormandPrince": small(DormandPrince, 1e-2, 1e-2),
        "FlowMapJumps": FlowMapJumps,
        "ChainSolver": ChainSolver,
        "EulerMaruyama": small(EulerMaruyama, SourceNoise(0.5)),
        "StochasticHeun": small(StochasticHeun, SourceNoise(0.5)),
        "AncestralDDIM": AncestralDDIM,
        "RectifiedSDE": RectifiedSDE,
        "Overshooting": Overshooting,
        "SDEDPMpp": SDEDPMpp,
        "Perturbed": small(Perturbed, Heun(), 0.1),
    },
}
PLAIN = {seat: next(iter(members)) for seat, members in AXES.items()}
"""The first member of every seat: flow matching as the README has it."""
