r"""The seat "how a measurement becomes a picture": a frozen field as prior, an operator, and a method that joins them.

Given y = A x + noise, an inverse method returns pictures x that explain y and that the prior finds likely. One
evaluation of the field at (x_t, t) gives both ends of the path, the data end x1 and the source end x0, through the
path's own conversions, so methods work on every affine path.

Convention: t=0 is the source, t=1 the data, v = dx/dt, batch first. The operator acts on pixels, the prior on states of
its codec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advect.codecs import Codec, Identity
from advect.errors import InputError
from advect.fields import Run, bind
from advect.interpolants import AffineInterpolant, Interpolant, Linear
from advect.inverse.operators import Operator
from advect.parts import Part
from advect.randomness import randn
from advect.solvers.base import working_precision


class Ends(NamedTuple):
    """Both ends of the path that one evaluation of the field stands for, each of the state's shape."""

    x0: Tensor
    x1: Tensor


class Restoration(NamedTuple):
    """What a method brings home.

    Attributes:
        x: Pictures (B, C, H, W).
        state: The same in the prior's states.
        run: Network calls and rows, and what the method noted on the way.
    """

    x: Tensor
    state: Tensor
    run: Run


@dataclass(frozen=True)
class Problem:
    """A measurement, how it came about, and the prior it is to be read with.

    Args:
        field: A bound field ``f(x, t) -> v``.
        y: Measurements (B, *output_shape).
        operator: How they came about.
        shape: Shape of one picture (C, H, W).
        codec: Between pictures and the prior's states.
        interpolant: The prior's path.
        run: Generator, counts and log.
        std: Standard deviation of the prior's Gaussian source.
    """

    field: Callable[..., Tensor]
    y: Tensor
    operator: Operator
    shape: tuple[int, ...]
    codec: Codec = dataclass_field(default_factory=Identity)
    interpolant: AffineInterpolant = Linear()
    run: Run = dataclass_field(default_factory=Run)
    std: float = 1.0

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the batch of states."""
        return (len(self.y), *self.codec.latent_shape(self.shape))

    def ends(self, x: Tensor, t: float) -> Ends:
        """The field at (x, t), read as both ends; gradients pass only if x wants them."""
        wanted = torch.is_grad_enabled() and x.requires_grad
        with torch.set_grad_enabled(wanted):
            v = working_precision(self.field(x, t))
            path = self.interpolant
            return Ends(path.x0_from_v(v, x, t), path.x1_from_v(v, x, t))

    def between(self, x0: Tensor, x1: Tensor, t: float) -> Tensor:
        """The state a x1 + g x0 of the path at t."""
        c = self.interpolant.coefficients(t)
        return c.a * x1 + c.g * x0

    def noise(self) -> Tensor:
        """A draw of the prior's source, one state per measurement."""
        return self.std * randn(self.state_shape, self.run.generator, dtype=self.y.dtype, device=self.y.device)

    def start(self) -> Tensor:
        """The encoded back-projection of the measurement."""
        return self.codec.encode(self.operator.back_projection(self.y, self.shape), self.run.generator)

    def residual(self, state: Tensor) -> Tensor:
        """A D(state) - y, flattened to (B, m)."""
        return (self.operator(self.codec.decode(state)) - self.y).flatten(1)

    def back_projected(self, residual: Tensor) -> Tensor:
        """B (A D(state) - y), flattened: the residual as the operator's back-projection sees it."""
        return self.operator.back_projection(residual.reshape(self.y.shape), self.shape).flatten(1)

    def data_gradient(self, state: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradient of a data term (B,) of each sample with respect to its state; the network is not involved."""
        with torch.enable_grad():
            leaf = state.detach().requires_grad_()
            return torch.autograd.grad(of(leaf).sum(), leaf)[0]


class InverseMethod(Part, ABC):
    """Restores pictures from measurements with a frozen field as prior."""

    @torch.no_grad()
    def __call__(
        self,
        field: Callable[..., Any],
        y: Tensor,
        operator: Operator,
        shape: tuple[int, ...],
        *,
        codec: Codec | None = None,
        interpolant: Interpolant | None = None,
        std: float = 1.0,
        run: Run | None = None,
    ) -> Restoration:
        """Restore one picture per measurement: each row is one draw of the method.

        Args:
            field: The prior, ``f(x, t) -> v`` on states, conditions and guidance bound.
            y: Measurements (B, *operator.output_shape(shape)).
            operator: How they came about.
            shape: Shape (C, H, W) of the pictures to restore.
            codec: Between pictures and states; None where they are the same.
            interpolant: The prior's path; None for the straight one.
            std: Standard deviation of its Gaussian source.
            run: Its generator feeds every draw; it takes up the counts.

        Raises:
            InputError: If the measurement does not fit the operator, or the path is not affine.
        """
        path = Linear() if interpolant is None else interpolant
        if not isinstance(path, AffineInterpolant):
            raise InputError(
                f"the path is {type(path).__name__}: one evaluation gives both ends on affine paths alone, "
                "so this prior cannot restore"
            )
        expected = operator.output_shape(tuple(shape))
        if tuple(y.shape[1:]) != expected:
            raise InputError(
                f"the measurement has shape {tuple(y.shape)}, but {type(operator).__name__} of pictures {tuple(shape)} "
                f"gives (B, {', '.join(map(str, expected))}): give what it measured"
            )
        run = Run() if run is None else run
        problem = Problem(
            bind(field, run), y, operator, tuple(shape), Identity() if codec is None else codec, path, run, std
        )
        state = self.solve(problem)
        return Restoration(problem.codec.decode(state), state, run)

    @abstractmethod
    def solve(self, problem: Problem) -> Tensor:
        """The restored states (B, *latent_shape); called without gradients."""


def relative_residual(operator: Operator, x: Tensor, y: Tensor) -> Tensor:
    """Root mean square of A x - y over the noise level, (B,): 1 where exactly the noise is left unexplained."""
    if not operator.noise > 0:
        raise InputError("the operator has no noise, so there is no noise level to compare the residual with")
    return (operator(x) - y).flatten(1).square().mean(1).sqrt() / operator.noise


def squared(residual: Tensor) -> Tensor:
    """||residual||^2 by sample, (B, m) to (B,): the SUM over the measurement, as all step sizes assume."""
    return residual.square().sum(1)


def length(residual: Tensor) -> Tensor:
    """||residual|| by sample, (B, m) to (B,); its gradient at 0 is 0."""
    return torch.linalg.vector_norm(residual, dim=1)
