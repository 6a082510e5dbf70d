"""Networks and wrappers of their outputs."""

from advect.networks.base import NetSpec, Network
from advect.networks.mlp import MLP

__all__ = ["MLP", "NetSpec", "Network"]
