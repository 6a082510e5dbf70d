r"""Hard data consistency: gradient steps on the measurement until the residual is down to the noise, and no further.

Up to `steps` times, sample by sample: S = ||A D(mu) - y||^2, summed over the measurement; where S < s m (m numbers in
the measurement) nothing is done, elsewhere mu <- mu - lr grad_mu [w S]. The test comes BEFORE each step, so a picture
that already explains its measurement is left as it is, to the bit.

Source: arXiv 2506.02680, section 3.2. The released code has one S for the whole tensor (batch 1), an absolute lr (0.1
for inpainting, 12 for x12 reduction), and s = 1e-4, the square of its noise level; here lr = rate / ||A||^2, which is
one number for all operators.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advect.errors import InputError
from advect.inverse.base import Problem, squared
from advect.parts import Part


@dataclass(frozen=True)
class Consistency(Part):
    """Data steps after each prior step.

    Args:
        steps: At most so many, at least 0 (none: the measurement is ignored).
        rate: Step size in units of 1/||A||^2, above 0.
        level: s, the mean square residual at which steps stop; None for the operator's noise squared.
        weighted: Whether the prior's weight w multiplies the data term too, as released.
    """

    steps: int = 15
    rate: float = 0.5
    level: float | None = None
    weighted: bool = True

    def __post_init__(self) -> None:
        if self.steps < 0 or not self.rate > 0:
            raise InputError(f"steps is {self.steps} and rate {self.rate}: give steps of at least 0, a rate above 0")
        if self.level is not None and not self.level >= 0:
            raise InputError(f"level is {self.level}: the mean square residual to stop at is at least 0")

    def __call__(self, problem: Problem, state: Tensor, weight: float, step: float) -> tuple[Tensor, Tensor, int]:
        """Pull states (B, *shape) towards their measurements.

        Args:
            problem: Measurement, operator, codec.
            state: Where to start.
            weight: w of the prior at this time.
            step: 1/||A||^2.

        Returns:
            The new states, the number of steps each sample took (B,), and how often the decoder was differentiated.
        """
        level = problem.operator.noise**2 if self.level is None else self.level
        goal = level * problem.y[0].numel()
        size = self.rate * step * (weight if self.weighted else 1.0)
        taken = torch.zeros(len(state), dtype=torch.long, device=state.device)
        passes = 0
        for _ in range(self.steps):
            with torch.enable_grad():
                leaf = state.detach().requires_grad_()
                loss = squared(problem.residual(leaf))
                unmet = loss.detach() >= goal if goal > 0 else loss.detach() > 0
                if not bool(unmet.any()):  # the one host sync of a step: it saves passes through the decoder
                    break
                gradient = torch.autograd.grad(loss.sum(), leaf)[0]
            passes += 1
            taken += unmet
            open_ = unmet.reshape(-1, *([1] * (state.ndim - 1)))
            state = torch.where(open_, state - size * gradient, state)
        return state, taken, passes
