"""How it is integrated."""

from advect.solvers.adams import AB2
from advect.solvers.adaptive import AdaptiveResult, DormandPrince, NotReached
from advect.solvers.base import Context, GridLike, Solver, Trajectory, first_time
from advect.solvers.chain import ChainSolver
from advect.solvers.ddim import DDIM, DPMpp2S, EDMHeun
from advect.solvers.flow_maps import FlowMapJumps
from advect.solvers.likelihood import bits_per_dim, dequantise, encode, log_prob, sde_log_prob
from advect.solvers.multistep import DPMpp2M, DPMpp3M
from advect.solvers.nodes import start_state
from advect.solvers.noise_levels import ConstantNoise, NoiseLevel, ReverseNoise, SinSquaredNoise, SourceNoise
from advect.solvers.perturbed import Perturbed
from advect.solvers.renewal import AncestralDDIM, Overshooting, RectifiedSDE, SDEDPMpp
from advect.solvers.runge_kutta import RK4, Euler, EulerLast, Heun, Midpoint, RungeKutta
from advect.solvers.sde import EulerMaruyama, StochasticHeun
from advect.solvers.unipc import UniPC

__all__ = [
    "AB2",
    "DDIM",
    "RK4",
    "AdaptiveResult",
    "AncestralDDIM",
    "ChainSolver",
    "ConstantNoise",
    "Context",
    "DPMpp2M",
    "DPMpp2S",
    "DPMpp3M",
    "DormandPrince",
    "EDMHeun",
    "Euler",
    "EulerLast",
    "EulerMaruyama",
    "FlowMapJumps",
    "GridLike",
    "Heun",
    "Midpoint",
    "NoiseLevel",
    "NotReached",
    "Overshooting",
    "Perturbed",
    "RectifiedSDE",
    "ReverseNoise",
    "RungeKutta",
    "SDEDPMpp",
    "SinSquaredNoise",
    "Solver",
    "SourceNoise",
    "StochasticHeun",
    "Trajectory",
    "UniPC",
    "bits_per_dim",
    "dequantise",
    "encode",
    "first_time",
    "log_prob",
    "sde_log_prob",
    "start_state",
]
