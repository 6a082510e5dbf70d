"""One pair of networks, b and eta, sampled at any level of noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from advect import Flow, Transport, solvers
from advect.data import Data
from advect.interpolants import StochasticInterpolant
from advect.networks import MLP, EtaScore, NetSpec
from advect.objectives import VelocityAndScore
from advect.solvers import ConstantNoise, EulerMaruyama
from advect.times import TimeGrid
from advect.training import TrainSettings, train


def noisy(e: float) -> solvers.Solver:
    """The SDE of level e, or the ODE."""
    return EulerMaruyama(ConstantNoise(e)) if e else solvers.Euler()


def train_both(network: Callable[[NetSpec], MLP], data: Data, settings: TrainSettings, seed: int) -> Flow:
    """b and eta with two networks on the same draws."""
    path = StochasticInterpolant()
    return train(
        network,
        data,
        objective=VelocityAndScore("b", "eta"),
        transport=Transport(interpolant=path),
        others={"score": lambda spec: EtaScore(network(spec), path)},
        settings=settings,
        seed=seed,
    )


def sample(flow: Flow, n: int, e: float, steps: int, seed: int, **cond: Any) -> Tensor:
    """n samples at noise level e; the grid stops short of the ends, where gamma is 0."""
    return flow.sample(n, seed=seed, batch_size=2000, solver=noisy(e), grid=TimeGrid(steps, 1e-3, 1 - 1e-3), **cond)
