"""The solvers that are compared: those with exact ends, and those that draw noise."""

from __future__ import annotations

from advect.solvers import (
    AB2,
    DDIM,
    RK4,
    AncestralDDIM,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    EDMHeun,
    Euler,
    EulerMaruyama,
    Heun,
    Midpoint,
    Overshooting,
    RectifiedSDE,
    SDEDPMpp,
    Solver,
    SourceNoise,
    StochasticHeun,
    UniPC,
)

SOLVERS: dict[str, Solver] = {
    "Euler": Euler(),
    "DDIM": DDIM(),
    "AB2": AB2(),
    "DPM-Solver++ 2M": DPMpp2M(),
    "UniPC-2": UniPC(order=2),
    "UniPC-3": UniPC(order=3),
    "DPM-Solver++ 3M": DPMpp3M(),
    "DPM-Solver++ 3M as published (c=1)": DPMpp3M(compat=True),
    "Heun": Heun(),
    "midpoint": Midpoint(),
    "DPM-Solver++ 2S": DPMpp2S(),
    "EDM Heun": EDMHeun(),
    "RK4": RK4(),
}

STOCHASTIC: dict[str, Solver] = {
    "Euler-Maruyama, e = g": EulerMaruyama(SourceNoise()),
    "stochastic Heun, e = g": StochasticHeun(SourceNoise()),
    "ancestral DDIM, eta = 1": AncestralDDIM(1.0),
    "SDE-DPM-Solver++ 1": SDEDPMpp(1),
    "SDE-DPM-Solver++ 2M": SDEDPMpp(2),
    "rectified SDE": RectifiedSDE(),
    "overshooting": Overshooting(),
}
