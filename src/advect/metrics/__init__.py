"""Figures of samples, trajectories and densities, with intervals, sample counts and real-against-real floors."""

from advect.metrics.base import Estimate, Metric, bootstrap_mean
from advect.metrics.coverage import interval_coverage
from advect.metrics.frechet import FrechetDistance, frechet_distance
from advect.metrics.judged import ClassAccuracy
from advect.metrics.neighbours import NearestTraining, Precision, Recall, inside, nearest
from advect.metrics.pareto import Front, FrontComparison, Point, compare_fronts, pareto_front
from advect.metrics.quadratic import MMD, EnergyDistance, KernelDistance, energy_distance, kernel_distance, mmd
from advect.metrics.restoration import psnr, ssim
from advect.metrics.shift_tolerant import STLPIPS
from advect.metrics.trajectories import bits_per_dimension, straightness
from advect.metrics.wasserstein import ExactW2, SlicedW2, exact_w2, sliced_w2

__all__ = [
    "MMD",
    "STLPIPS",
    "ClassAccuracy",
    "EnergyDistance",
    "Estimate",
    "ExactW2",
    "FrechetDistance",
    "Front",
    "FrontComparison",
    "KernelDistance",
    "Metric",
    "NearestTraining",
    "Point",
    "Precision",
    "Recall",
    "SlicedW2",
    "bits_per_dimension",
    "bootstrap_mean",
    "compare_fronts",
    "energy_distance",
    "exact_w2",
    "frechet_distance",
    "inside",
    "interval_coverage",
    "kernel_distance",
    "mmd",
    "nearest",
    "pareto_front",
    "psnr",
    "sliced_w2",
    "ssim",
    "straightness",
]
