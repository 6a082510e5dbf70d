"""Who is at t=0: source distributions."""

from advect.sources.base import Source
from advect.sources.chi_sphere import ChiSphere
from advect.sources.clusters import ClusterVonMisesFisher, spherical_kmeans
from advect.sources.data import FromData
from advect.sources.fitted_mixture import FittedMixture
from advect.sources.gaussian import Gaussian
from advect.sources.masked_frequencies import MaskedFrequencies
from advect.sources.mixtures import GaussianMixture, Mixture
from advect.sources.norm_aligned import NormAligned, aligned_scale, chi_mean
from advect.sources.pruned import PrunedSource, pruned_acceptance
from advect.sources.student_t import StudentT
from advect.sources.von_mises_fisher import VonMisesFisher, mean_cosine

__all__ = [
    "ChiSphere",
    "ClusterVonMisesFisher",
    "FittedMixture",
    "FromData",
    "Gaussian",
    "GaussianMixture",
    "MaskedFrequencies",
    "Mixture",
    "NormAligned",
    "PrunedSource",
    "Source",
    "StudentT",
    "VonMisesFisher",
    "aligned_scale",
    "chi_mean",
    "mean_cosine",
    "pruned_acceptance",
    "spherical_kmeans",
]
