r"""A mixture of Gaussians with full covariances, found on the data: a source that approximates their density."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.randomness import randint, randn
from advect.sources.base import Source
from advect.sources.densities import choose


class FittedMixture(ModulePart, Source):
    r"""x0 ~ sum_k w_k N(m_k, L_k L_k^T), fitted to the data by expectation maximisation at the start of training.

    It is here as the comparison of the paper, which finds that a source close to the data makes flow matching worse
    than a Gaussian. It has a density and a score of its own; the velocity of a flow from it gives none.

    Args:
        components: K, at least 1. One is the Gaussian of the data's mean and covariance.
        floor: Added to the diagonal of every covariance, in units of the data's mean variance, above 0.
        iterations: Rounds of expectation maximisation at most.

    Source: Lee, Kim, Lee, TMLR 2025 (1, 2 and 10 components on CIFAR-10).
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int = 2, floor: float = 1e-3, iterations: int = 100) -> None:
        super().__init__()
        if components < 1 or iterations < 1 or not floor > 0:
            raise InputError(
                f"components={components}, floor={floor}, iterations={iterations}: all of them are above 0"
            )
        self.components, self.floor, self.iterations = components, floor, iterations
        self.register_buffer("weights", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(0, 0))
        self.register_buffer("factors", torch.zeros(0, 0, 0))

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> FittedMixture:
        """Find weights, means and covariances on data (N, *shape), in place.

        Raises:
            InputError: If there are fewer samples than components, or values that are not finite.
        """
        x = x1.flatten(1).double()
        if len(x) < max(2, self.components) or not bool(torch.isfinite(x).all()):
            raise InputError(
                f"x1 has shape {tuple(x1.shape)} for {self.components} components: give more samples, all finite"
            )
        ridge = self.floor * float(x.var(0).mean())
        if not ridge > 0:
            raise InputError("the data have no spread: a mixture of Gaussians cannot be fitted to them")
        share = self._start(x, generator)
        before = -math.inf
        for _ in range(self.iterations):
            self._maximise(x, share, ridge)
            joint = self._log_joint(x)
            total = torch.logsumexp(joint, 1)
            share, now = (joint - total[:, None]).exp(), float(total.mean())
            if now - before < 1e-6 * x.shape[1]:
                break
            before = now
        self.means, self.factors = self.means.to(x1.dtype), self.factors.to(x1.dtype)
        return self

    def _start(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Each sample at the nearest of K samples that lie far from each other."""
        centres = x[randint(len(x), (1,), generator, device=x.device)]
        while len(centres) < self.components:
            far = torch.cdist(x, centres).amin(1).square()
            weights = far / far.sum() if float(far.sum()) > 0 else torch.full_like(far, 1 / len(far))
            centres = torch.cat([centres, x[choose(weights, 1, generator)]])
        return torch.nn.functional.one_hot(torch.cdist(x, centres).argmin(1), self.components).double()

    def _maximise(self, x: Tensor, share: Tensor, ridge: float) -> None:
        count = share.sum(0).clamp_min(1e-9)
        self.weights, self.means = count / count.sum(), share.T @ x / count[:, None]
        eye, factors = ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device), []
        for k in range(self.components):  # one covariance at a time: K of them with N rows each do not fit
            rest = x - self.means[k]
            factors.append(torch.linalg.cholesky((share[:, k : k + 1] * rest).T @ rest / count[k] + eye))
        self.factors = torch.stack(factors)

    def _log_joint(self, x: Tensor) -> Tensor:
        """log w_k N(x; m_k, C_k), shape (B, K), for flat x."""
        rest = x - self.means.to(x)[:, None]  # (K, B, d)
        L = self.factors.to(x)
        z = torch.linalg.solve_triangular(L, rest.mT, upper=False)
        constant = L.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * x.shape[1] * math.log(2 * math.pi)
        return (self.weights.log().to(x)[:, None] - 0.5 * z.square().sum(1) - constant[:, None]).T

    @property
    def fitted(self) -> bool:
        return len(self.weights) > 0

    def _ready(self, d: int) -> None:
        if not self.fitted:
            raise InputError("FittedMixture has no components yet: training finds them, or call fit(x1)")
        if self.means.shape[1] != d:
            raise InputError(f"the state has {d} coordinates, but the mixture was fitted to {self.means.shape[1]}")

    def sample(
        self,
        shape: Sequence[int],
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        *,
        rows: Tensor | None = None,
        x1: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        self._ready(math.prod(shape[1:]))
        z = randn(shape, generator, dtype=dtype, device=self.means.device if device is None else device)
        label, flat = choose(self.weights, shape[0], generator, rows), z.flatten(1)
        x0 = torch.empty_like(flat)
        for k in range(self.components):
            own = label == k
            x0[own] = self.means[k].to(flat) + flat[own] @ self.factors[k].to(flat).T
        return x0.reshape(z.shape)

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        self._ready(x0[0].numel())
        return torch.logsumexp(self._log_joint(x0.flatten(1)), 1)

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor:
        self._ready(x0[0].numel())
        x = x0.flatten(1)
        share = torch.softmax(self._log_joint(x), 1)
        rest = x - self.means.to(x)[:, None]
        pull = torch.cholesky_solve(rest.mT, self.factors.to(x)).mT  # (K, B, d)
        return -(share.T[..., None] * pull).sum(0).reshape(x0.shape)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """What was fitted takes the file's shape."""
        for name in ("weights", "means", "factors"):
            if (value := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(value))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
