"""Between data and state."""

from advect.codecs.base import Codec
from advect.codecs.simple import Identity, Standardize
from advect.codecs.unshuffle import PixelUnshuffle

__all__ = ["Codec", "Identity", "PixelUnshuffle", "Standardize"]
