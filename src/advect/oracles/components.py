"""Gaussian components, and the basis in which the covariances of source and data are diagonal together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from advect.errors import InputError

# a number stands for that variance in every direction, a nested list for a full matrix
Covariance: TypeAlias = float | Sequence[Sequence[float]]


class Components(NamedTuple):
    """Gaussian components over flat states of D dimensions, all float64.

    Attributes:
        log_weights: (K,), normalised.
        means: (K, D).
        covariances: (K,) variances of isotropic components, or (K, D, D).
        labels: (K,) int64.
    """

    log_weights: Tensor
    means: Tensor
    covariances: Tensor
    labels: Tensor

    @property
    def isotropic(self) -> bool:
        """Whether every covariance is a multiple of the identity."""
        return self.covariances.ndim == 1

    def matrices(self) -> Tensor:
        """Covariances as (K, D, D)."""
        if not self.isotropic:
            return self.covariances
        eye = torch.eye(self.means.shape[1], dtype=torch.float64, device=self.means.device)
        return self.covariances[:, None, None] * eye


class Diagonal(NamedTuple):
    """Covariances of a pair of components in a common basis W: C = W diag(c) W', S = W diag(s) W', I = W diag(i) W'.

    Attributes:
        basis: W (P, D, D), or None for the identity.
        inverse: W^-1.
        log_det: log |det W| (P,).
        c: (P, D), of the data.
        s: (P, D), of the source.
        i: (P, D), of the identity; None where C and S do not commute, then W is not orthogonal.
    """

    basis: Tensor | None
    inverse: Tensor | None
    log_det: Tensor
    c: Tensor
    s: Tensor
    i: Tensor | None


def covariance_tensor(covariances: Sequence[Covariance], dimensions: int) -> Tensor:
    """Variances (K,) if all are numbers, else matrices (K, D, D).

    Raises:
        InputError: If one has the wrong shape, or is not symmetric and positive definite.
    """
    each = [torch.as_tensor(c, dtype=torch.float64) for c in covariances]
    if all(c.ndim == 0 for c in each):
        out = torch.stack(each)
        if not (out > 0).all():
            raise InputError(f"covariances are {out.tolist()}: a variance is above 0 (points are FiniteData)")
        return out
    eye = torch.eye(dimensions, dtype=torch.float64)
    for k, c in enumerate(each):
        if c.ndim and c.shape != eye.shape:
            raise InputError(
                f"covariance {k} has shape {tuple(c.shape)}, but the states have {dimensions} dimensions: "
                f"give a number or a matrix of {dimensions} by {dimensions}"
            )
    out = torch.stack([c * eye if c.ndim == 0 else c for c in each])
    for k, c in enumerate(out):
        if not torch.allclose(c, c.T) or not (torch.linalg.eigvalsh(c) > 0).all():
            raise InputError(f"covariance {k} is {c.tolist()}: it has to be symmetric and positive definite")
    return out


def diagonalise(data: Components, source: Components) -> Diagonal:
    """Common bases of every (source, data) pair, in the order source-major."""
    K, J, D = len(data.means), len(source.means), data.means.shape[1]
    if data.isotropic and source.isotropic:
        c = data.covariances.repeat(J)[:, None].expand(-1, D)
        s = source.covariances.repeat_interleave(K)[:, None].expand(-1, D)
        return Diagonal(None, None, torch.zeros_like(c[:, 0]), c, s, torch.ones_like(c))
    C = data.matrices().repeat(J, 1, 1)
    S = source.matrices().repeat_interleave(K, 0)
    commutator = (C @ S - S @ C).abs().amax((1, 2))
    if (commutator <= 1e-12 * C.abs().amax((1, 2)) * S.abs().amax((1, 2))).all():
        # a generic sum has the eigenvectors of both, also where one of them is degenerate
        scale = C.diagonal(dim1=1, dim2=2).mean(1) / S.diagonal(dim1=1, dim2=2).mean(1)
        basis = torch.linalg.eigh(C + 0.6180339887 * scale[:, None, None] * S).eigenvectors
        c = (basis * (C @ basis)).sum(1)
        s = (basis * (S @ basis)).sum(1)
        return Diagonal(basis, basis.mT, torch.zeros_like(c[:, 0]), c, s, torch.ones_like(c))
    # with S = L L', the eigenvectors U of L^-1 C L^-T make W = L U diagonalise both
    L = torch.linalg.cholesky(S)
    inner = torch.linalg.solve_triangular(L, torch.linalg.solve_triangular(L, C, upper=False).mT, upper=False)
    c, U = torch.linalg.eigh(inner)
    basis = L @ U
    inverse = torch.linalg.solve_triangular(L.mT, U, upper=True).mT
    return Diagonal(basis, inverse, torch.linalg.slogdet(L).logabsdet, c, torch.ones_like(c), None)
