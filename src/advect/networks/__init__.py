"""Networks and wrappers of their outputs."""

from advect.networks.base import NetSpec, Network

__all__ = ["NetSpec", "Network"]
