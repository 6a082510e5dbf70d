r"""L-BFGS for many independent problems at once: each row has its own history and its own step length.

One optimiser for the sum over a batch would share its history and its line search between problems that have nothing
to do with each other, and converges far more slowly.

Source: J. Nocedal and S. Wright, Numerical Optimization (2006), algorithms 7.4 and 3.1 (backtracking; torch's own
L-BFGS has strong Wolfe conditions, but for one problem).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Target = Callable[[Tensor], tuple[Tensor, Tensor]]


def minimise(target: Target, x: Tensor, iterations: int, history: int = 20, halvings: int = 10) -> Tensor:
    """Lower a target for each row.

    Args:
        target: From x (B, *shape) to the values (B,) and their gradients (B, *shape), without a graph.
        x: Where to start.
        iterations: Steps of each row, at least one evaluation of the target each.
        history: Pairs of differences that the curvature is read from.
        halvings: How often a step is halved at most before its row stays where it is.

    Returns:
        The best x of each row, (B, *shape).
    """
    shape, x = x.shape, x.flatten(1)

    def at(point: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = target(point.reshape(shape))
        return value, gradient.flatten(1)

    value, gradient = at(x)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(iterations):
        direction = -_two_loops(gradient, pairs)
        slope = (direction * gradient).sum(1)
        bad = slope >= 0  # a row whose curvature misleads falls back to its gradient
        direction = torch.where(bad[:, None], -gradient, direction)
        slope = torch.where(bad, -gradient.square().sum(1), slope)
        # the first step has no curvature to scale it
        step = torch.ones_like(value) if pairs else 1 / gradient.norm(dim=1).clamp_min(1.0)
        tried, tried_value, tried_gradient = x, value, gradient
        open_ = torch.ones_like(value, dtype=torch.bool)
        for _ in range(halvings):
            candidate = torch.where(open_[:, None], x + step[:, None] * direction, tried)
            candidate_value, candidate_gradient = at(candidate)
            good = open_ & (candidate_value <= value + 1e-4 * step * slope)
            tried = torch.where(good[:, None], candidate, tried)
            tried_value = torch.where(good, candidate_value, tried_value)
            tried_gradient = torch.where(good[:, None], candidate_gradient, tried_gradient)
            open_ = open_ & ~good
            if not bool(open_.any()):
                break
            step = torch.where(open_, step / 2, step)
        s, y = tried - x, tried_gradient - gradient
        product = (s * y).sum(1)
        keep = product > 1e-10 * y.square().sum(1)
        # a row without curvature enters with rho = 0, which leaves its directions as they are
        pairs = [*pairs[-history + 1 :], (s, y, torch.where(keep, 1 / product, torch.zeros_like(product)))]
        x, value, gradient = tried, tried_value, tried_gradient
    return x.reshape(shape)


def _two_loops(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The inverse Hessian that the pairs stand for, times the gradient, row by row."""
    q, alphas = gradient, []
    for s, y, rho in reversed(pairs):
        alpha = rho * (s * q).sum(1)
        alphas.append(alpha)
        q = q - alpha[:, None] * y
    if pairs:
        s, y, rho = pairs[-1]
        scale = torch.where(rho > 0, 1 / (rho * y.square().sum(1)), torch.ones_like(rho))
        q = scale[:, None] * q
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = rho * (y * q).sum(1)
        q = q + (alpha - beta)[:, None] * s
    return q
