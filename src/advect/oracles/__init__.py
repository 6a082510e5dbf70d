"""Closed-form fields: what everything is measured against."""

from advect.oracles.base import Carried, Oracle
from advect.oracles.carried_mixture import CarriedMixture
from advect.oracles.finite import CarriedPoints, FiniteData
from advect.oracles.flow_map import GaussianFlowMap
from advect.oracles.kernels import ExactKernel, GaussianKernel
from advect.oracles.measured import given_measurement
from advect.oracles.mixture import Gaussian, GaussianMixture, reference_mixture

__all__ = [
    "Carried",
    "CarriedMixture",
    "CarriedPoints",
    "ExactKernel",
    "FiniteData",
    "Gaussian",
    "GaussianFlowMap",
    "GaussianKernel",
    "GaussianMixture",
    "Oracle",
    "given_measurement",
    "reference_mixture",
]
