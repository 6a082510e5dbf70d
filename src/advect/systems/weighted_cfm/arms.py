"""The arms that all experiments compare: independent pairs, weighted ones, and exact pairing in the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from advect.couplings import Coupling
from advect.data import Data
from advect.flow import Flow
from advect.networks import MLP, NetSpec
from advect.systems.framework import Setting
from advect.training import TrainSettings, train
from advect.transport import Transport

PLAIN, ELBOW, EXACT = "I-CFM", "W-CFM at the elbow", "OT-CFM (exact, in the batch)"
COUNTS = (1, 2, 4, 8, 50)


def trained(
    setting: Setting,
    where: str,
    network: Callable[[NetSpec], MLP],
    data: Data,
    couplings: Mapping[str, Coupling],
    settings: TrainSettings,
) -> dict[str, Flow]:
    """A flow for every coupling: the same network, seed and steps."""
    flows = {}
    for name, coupling in couplings.items():
        setting.say(f"{where}: {name}")
        flows[name] = train(network, data, transport=Transport(coupling=coupling), settings=settings, seed=setting.seed)
    return flows


def mean_norm(x: Tensor) -> float:
    """Mean Euclidean norm of pictures."""
    return float(x.flatten(1).norm(dim=1).mean())
