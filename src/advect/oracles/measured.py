r"""The exact posterior of a mixture given a linear measurement: what samples of an inverse method are compared with.

For x ~ sum_k w_k N(m_k, C_k) and y = A x + noise eps, with S_k = A C_k A' + noise^2 I,

    w_k' ~ w_k N(y; A m_k, S_k),    m_k' = m_k + C_k A' S_k^-1 (y - A m_k),    C_k' = C_k - C_k A' S_k^-1 A C_k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advect.errors import InputError
from advect.oracles.mixture import GaussianMixture


def given_measurement(mixture: GaussianMixture, matrix: Tensor, y: Tensor, noise: float) -> GaussianMixture:
    """The law of x given one measurement, again a mixture.

    Args:
        mixture: The law of x, states of D numbers.
        matrix: A, (m, D).
        y: One measurement, (m,).
        noise: Standard deviation of the measurement's noise, above 0.

    Raises:
        InputError: If the shapes disagree, or there is no noise.
    """
    prior = mixture.components
    m, C = prior.means, prior.matrices()
    A, y = matrix.to(m), y.flatten().to(m)
    if A.shape != (len(y), m.shape[1]) or not noise > 0:
        raise InputError(
            f"the matrix is {tuple(A.shape)}, the measurement {tuple(y.shape)}, states have {m.shape[1]} numbers and "
            f"the noise is {noise}: give a matrix (measurements, states) and a noise above 0"
        )
    S = A @ C @ A.mT + noise**2 * torch.eye(len(y), dtype=m.dtype, device=m.device)
    gain = torch.linalg.solve(S, A @ C).mT  # C A' S^-1
    off = y - m @ A.mT
    evidence = torch.distributions.MultivariateNormal(torch.zeros_like(off), S).log_prob(off)
    log_weights = (prior.log_weights + evidence).log_softmax(0)
    kept = log_weights > -700  # a weight below the smallest number cannot be written down
    means = m + torch.einsum("kij,kj->ki", gain, off)
    covariances = C - gain @ A @ C
    covariances = (covariances + covariances.mT) / 2
    return GaussianMixture(
        log_weights[kept].exp().tolist(),
        means[kept].reshape(-1, *mixture.shape).tolist(),
        covariances[kept].tolist(),
        prior.labels[kept].tolist(),
    )
