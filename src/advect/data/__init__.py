"""Data: numbered samples in splits, with their conditions."""

from advect.data.base import Data, Split
from advect.data.builtin_sets import Clothing, Digits, Emoji

__all__ = ["Clothing", "Data", "Digits", "Emoji", "Split"]
