"""Data: numbered samples in splits, with their conditions."""

from advect.data.arrays import Arrays
from advect.data.augment import Augmentation, HorizontalFlip, Shift
from advect.data.base import Data, Split
from advect.data.builtin_sets import Clothing, Digits, Emoji
from advect.data.callables import FromCallable
from advect.data.cifar import Cifar10
from advect.data.describe import describe
from advect.data.domains import TwoDomains
from advect.data.folder import ImageFolder
from advect.data.huggingface import HuggingFace
from advect.data.idx import Idx
from advect.data.pairs import StoredPairs
from advect.data.planar import Checkerboard, EightGaussians
from advect.data.segments import StoredSegments
from advect.data.tensors import Tensors
from advect.data.webdataset import WebDataset

__all__ = [
    "Arrays",
    "Augmentation",
    "Checkerboard",
    "Cifar10",
    "Clothing",
    "Data",
    "Digits",
    "EightGaussians",
    "Emoji",
    "FromCallable",
    "HorizontalFlip",
    "HuggingFace",
    "Idx",
    "ImageFolder",
    "Shift",
    "Split",
    "StoredPairs",
    "StoredSegments",
    "Tensors",
    "TwoDomains",
    "WebDataset",
    "describe",
]
