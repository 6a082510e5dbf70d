"""Who is at t=0: source distributions."""

from advect.sources.base import Source
from advect.sources.gaussian import Gaussian

__all__ = ["Gaussian", "Source"]
