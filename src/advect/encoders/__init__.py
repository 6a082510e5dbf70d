"""Frozen feature extractors, named and versioned."""

from advect.encoders.base import Extractor, Pixels, extract
from advect.encoders.classifier import SmallClassifier
from advect.encoders.effnet import EfficientNetLite0
from advect.encoders.own import Wrapped, own_extractor

__all__ = ["EfficientNetLite0", "Extractor", "Pixels", "SmallClassifier", "Wrapped", "extract", "own_extractor"]
