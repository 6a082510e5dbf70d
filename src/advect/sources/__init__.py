"""Who is at t=0: source distributions."""

from advect.sources.base import Source
from advect.sources.data import FromData
from advect.sources.gaussian import Gaussian
from advect.sources.mixtures import GaussianMixture, Mixture
from advect.sources.student_t import StudentT

__all__ = ["FromData", "Gaussian", "GaussianMixture", "Mixture", "Source", "StudentT"]
