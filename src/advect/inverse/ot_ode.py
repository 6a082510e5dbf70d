r"""OT-ODE: the flow's ODE with the gradient of a Gaussian likelihood of the measurement, through the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import InverseMethod, Problem


@dataclass(frozen=True)
class OTODE(InverseMethod):
    r"""v <- v + (g s^2 Delta / a) gamma (d x1hat / d x)' A' (r^2 A A' + noise^2)^-1 (y - A x1hat).

    That is p(y | x_t) with x1 taken as N(x1hat, r^2), r^2 = g^2 s^2 / (g^2 s^2 + a^2), and s the standard deviation of
    the source: on the straight path from N(0, I) the factor is (1 - t) / t. Euler steps from `begin`, where the state
    is the noised back-projection.

    Args:
        scale: gamma, above 0.
        begin: First time, in (0, 1).
        steps: Euler steps.

    Source: arXiv 2310.04432, algorithm 1 (there gamma is 1, or sqrt(t / (t^2 + (1 - t)^2))).
    """

    scale: float = 1.0
    begin: float = 0.2
    steps: int = 50

    def __post_init__(self) -> None:
        if not self.scale > 0 or self.steps < 1 or not 0 < self.begin < 1:
            raise InputError(
                f"scale is {self.scale}, steps {self.steps}, begin {self.begin}: give a scale above 0, at least 1 "
                "step, and a first time between 0 and 1"
            )

    def solve(self, problem: Problem) -> Tensor:
        path, operator, noise = problem.interpolant, problem.operator, problem.operator.noise
        x = problem.between(problem.noise(), problem.start(), self.begin)
        width = (1 - self.begin) / self.steps
        for k in range(self.steps):
            t = self.begin + k * width
            c = path.coefficients(t)
            g = c.g * problem.std
            spread = float(g**2 / (g**2 + c.a**2))
            with torch.enable_grad():
                leaf = x.detach().requires_grad_()
                v = problem.field(leaf, t)
                seen = operator(problem.codec.decode(path.x1_from_v(v, leaf, t)))
                pull = operator.solve(problem.y - seen.detach(), spread, noise**2, problem.shape)
                guide = torch.autograd.grad((seen * pull).sum(), leaf)[0]
            x = x + width * (v.detach() + self.scale * float(g * problem.std * c.delta / c.a) * guide)
        return x
