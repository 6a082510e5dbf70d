"""Between data and state."""

from advect.codecs.base import Codec
from advect.codecs.simple import Identity, Standardize

__all__ = ["Codec", "Identity", "Standardize"]
