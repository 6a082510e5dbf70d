r"""A network that predicts something else than the velocity, worn as a field.

An objective compares in the network's own space (:meth:`Prediction.output` with :meth:`Prediction.target`); a solver
asks for the velocity, or for x1, x0 or the score, each in one conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from advect.broadcasting import expand_time
from advect.fields import Run, Step, bind
from advect.interpolants import AffineInterpolant, Kind, Linear
from advect.interpolants.conversions import check_kind, moments
from advect.networks.base import Network
from advect.parts import ModulePart
from advect.sources import Gaussian, Source


class Prediction(ModulePart):
    r"""A Field made of a network whose output is of kind `kind`.

    A network of kind "F" is fed x / sqrt(s^2 g^2 + sd^2 a^2), which is EDM's c_in x/a, and one of kind "trigflow" x / s
    (s the source's standard deviation), as their papers have it; both are told t, not log(g/a)/4 or an angle: those are
    functions of t, and the first is infinite at the ends. All other kinds are fed x as it is.

    Args:
        network: The network; its `spec` is this field's.
        kind: What it predicts: "v", "x1", "x0", "score", "F" (EDM), "trigflow", or a diffusers name; see
            :data:`advect.interpolants.Kind`.
        interpolant: The path it is trained on.
        source: The source, whose mean and spread the score, "epsilon", "F" and "trigflow" need; N(0, I) by default.
        data_std: Standard deviation of the data, read by "F" alone.

    Raises:
        InputError: If the kind is unknown, or needs a Gaussian source and has none.
    """

    def __init__(
        self,
        network: Network,
        kind: Kind = "v",
        interpolant: AffineInterpolant = Linear(),
        source: Source = Gaussian(),
        data_std: float = 0.5,
    ) -> None:
        super().__init__()
        check_kind(kind)
        self.moments = moments(source, kind)
        self.kind: Kind = kind
        self.network, self.interpolant = network, interpolant
        self.source, self.data_std = source, data_std
        self.spec = network.spec

    def forward(self, x: Tensor, t: Tensor | float, **cond: Any) -> Any:
        """The velocity at (x, t), shape of x; with ``features=`` the pair (velocity, features)."""
        return self._convert(self.output(x, t, **cond), x, t, "v")

    def output(self, x: Tensor, t: Tensor | float, **cond: Any) -> Any:
        """What the network itself says at (x, t): a prediction of kind `kind`."""
        return self.network(self.scaled(x, t), t, **cond)

    def target(self, x0: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
        """What the network is to say about the pair (x0, x1) at t, shape of x1."""
        return self.interpolant.of_pair(x0, x1, t, self.kind, self.source, data_std=self.data_std)

    def x1(self, x: Tensor, t: Tensor | float, **cond: Any) -> Any:
        """The predicted data E[x1 | x_t = x]."""
        return self._convert(self.output(x, t, **cond), x, t, "x1")

    def x0(self, x: Tensor, t: Tensor | float, **cond: Any) -> Any:
        """The predicted source E[x0 | x_t = x]."""
        return self._convert(self.output(x, t, **cond), x, t, "x0")

    def score(self, x: Tensor, t: Tensor | float, **cond: Any) -> Any:
        """grad log p_t(x); true only where the source is Gaussian and independent of the data."""
        return self._convert(self.output(x, t, **cond), x, t, "score")

    def bind(self, run: Run, role: str = "model", **cond: Any) -> BoundPrediction:
        """Bind the network; the bound field answers ``.x1(x, t)`` and the like too."""
        return BoundPrediction(self, bind(self.network, run, role=role, **cond))

    def scaled(self, x: Tensor, t: Tensor | float) -> Tensor:
        """What the network is fed for the state x."""
        mean, std = self.moments
        if self.kind == "trigflow":
            return x / std
        if self.kind != "F":
            return x
        t = expand_time(t, x)
        a, g = self.interpolant.alpha(t), self.interpolant.sigma(t)
        return (x - mean * g if mean else x) / torch.hypot(std * g, self.data_std * a)

    def _convert(self, output: Any, x: Tensor, t: Tensor | float, want: Kind) -> Any:
        if isinstance(output, tuple):
            value, features = output
            return self._convert(value, x, t, want), features
        return self.interpolant.convert(output, x, t, self.kind, want, self.source, data_std=self.data_std)


class BoundPrediction:
    """A :class:`Prediction` bound to a trajectory: ``f(x, t)`` is v; `x1`, `x0`, `score` and `output` as well."""

    is_bound = True

    def __init__(self, prediction: Prediction, network: Callable[..., Any]) -> None:
        self.prediction, self.network = prediction, network

    def output(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Any:
        """What the network itself says."""
        return self.network(self.prediction.scaled(x, t), t, step=step)

    def __call__(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Any:
        return self.prediction._convert(self.output(x, t, step), x, t, "v")

    def x1(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Any:
        """The predicted data."""
        return self.prediction._convert(self.output(x, t, step), x, t, "x1")

    def x0(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Any:
        """The predicted source."""
        return self.prediction._convert(self.output(x, t, step), x, t, "x0")

    def score(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Any:
        """grad log p_t(x)."""
        return self.prediction._convert(self.output(x, t, step), x, t, "score")
