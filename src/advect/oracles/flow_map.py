r"""The exact flow map between Gaussians.

In the common basis of both covariances the probability flow stretches each direction by itself:

    X_{r->t}(x) = M_t + W diag(sqrt(V_t / V_r)) W^-1 (x - M_r),    u = (X - x) / (t - r),    u(x, t, t) = v(x, t).
"""

from __future__ import annotations

import torch
from torch import Tensor

from advect.errors import InputError
from advect.oracles.base import column_time
from advect.oracles.carried_mixture import CarriedMixture


class GaussianFlowMap:
    """A :class:`~advect.fields.FlowMap` in closed form.

    Args:
        carried: A single Gaussian carried from a single Gaussian.

    Raises:
        InputError: If there is more than one component.
    """

    def __init__(self, carried: CarriedMixture) -> None:
        if len(carried.m1) != 1:
            raise InputError(
                f"the mixture has {len(carried.m1)} pairs of components: only one Gaussian from one Gaussian has a "
                "flow map in closed form; integrate the velocity with a solver"
            )
        self.carried = carried

    def jump(self, x: Tensor, r: Tensor | float, t: Tensor | float) -> Tensor:
        """X_{r->t}(x), shape of x; times () or (B,), in any order."""
        d, c = self.carried.diagonal, self.carried
        at_r, at_t = c.mixing(column_time(r, x)), c.mixing(column_time(t, x))
        z = x.flatten(1).double()[:, None] - c.mean_at(at_r)
        if d.inverse is not None:
            z = torch.einsum("pij,bpj->bpi", d.inverse, z)
        z = z * torch.sqrt(c.variance_at(at_t) / c.variance_at(at_r))
        if d.basis is not None:
            z = torch.einsum("pij,bpj->bpi", d.basis, z)
        return (z + c.mean_at(at_t)).sum(1).reshape(x.shape).to(x.dtype)

    def __call__(self, x: Tensor, r: Tensor | float, t: Tensor | float) -> Tensor:
        """The average velocity u(x, r, t), x given at r; v(x, t) where r = t."""
        start, end = column_time(r, x), column_time(t, x)
        step = (end - start).reshape(-1, *(1,) * (x.ndim - 1)).to(x.dtype)
        still = step == 0
        u = (self.jump(x, r, t) - x) / torch.where(still, 1.0, step)
        return torch.where(still, self.velocity(x, t), u)

    def velocity(self, x: Tensor, t: Tensor | float) -> Tensor:
        """v(x, t)."""
        return self.carried.velocity(x, t)
