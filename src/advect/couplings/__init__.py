"""Who goes with whom: couplings of source and data."""

from advect.couplings.base import Coupling, Pairs
from advect.couplings.simple import Independent, Paired

__all__ = ["Coupling", "Independent", "Paired", "Pairs"]
