"""Known linear degradations, with adjoints."""

from advect.inverse.operators.base import Operator
from advect.inverse.operators.inpainting import Box, Inpainting, MaskFile, Strokes
from advect.inverse.operators.others import Denoising, MotionBlur, RandomProjections
from advect.inverse.operators.separable import AverageDown, BicubicDown, GaussianBlur, Separable

__all__ = [
    "AverageDown",
    "BicubicDown",
    "Box",
    "Denoising",
    "GaussianBlur",
    "Inpainting",
    "MaskFile",
    "MotionBlur",
    "Operator",
    "RandomProjections",
    "Separable",
    "Strokes",
]
