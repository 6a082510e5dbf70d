"""Flow matching: regress the velocity of the path, or any other prediction of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advect.batch import Batch
from advect.errors import InputError
from advect.interpolants import KINDS, AffineInterpolant, Kind, Point
from advect.interpolants.conversions import moments
from advect.networks import Prediction
from advect.objectives.base import Loss, Networks, Objective
from advect.objectives.weights import TimeWeight
from advect.times import TimeDensity, Uniform


class FlowMatching(Objective):
    r"""L = E w(t) |prediction - target|^2, the mean over coordinates.

    A plain network f(x, t) is regressed on the velocity dx_t/dt. One wrapped in :class:`~advect.networks.Prediction`
    is regressed on what it predicts (x1, x0, the score, F, ...), in its own units.

    Args:
        times: Density of training times.
        weight: w(t); it is applied in the space its paper writes it for. None for 1.
        space: The kind of prediction in which to compare; None for that of the weight, else the network's own. The
            network's output is converted to it, and a conversion can be infinite at an end of time.

    Raises:
        InputError: If the space is unknown, or not the one the weight is written for.

    Source: arXiv 2210.02747 section 3.2, arXiv 2209.03003 section 2.
    """

    def __init__(
        self, times: TimeDensity | None = None, weight: TimeWeight | None = None, space: Kind | None = None
    ) -> None:
        super().__init__()
        self.times: TimeDensity = Uniform() if times is None else times
        self.weight = weight
        if space is not None and space not in KINDS:
            raise InputError(f"space is {space!r}: choose one of {', '.join(KINDS)}")
        own = None if weight is None else weight.space
        if own is not None and space is not None and space != own:
            raise InputError(f"space is {space!r}, but {type(weight).__name__} is written for {own!r}: leave space out")
        self.space: Kind | None = own if space is None else space

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        x1, x0, path = batch.x1, batch.x0, nets.transport.interpolant
        assert x0 is not None
        t = self.times.sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device)
        point = path.sample(x0, x1, t, generator)
        weight = batch.weight
        if self.weight is not None:
            of_time = self.weight(t, _affine(path, type(self.weight).__name__))
            weight = of_time if weight is None else weight * of_time
        model = nets.model
        compiled = getattr(model, "_modules", {}).get("_orig_mod")
        plain = model if compiled is None else compiled
        if not isinstance(plain, Prediction) and (self.space is None or self.space == "v"):
            return Loss(model(point.x, t, **batch.cond), point.v, weight=weight, t=t)
        prediction, target = self._in_space(nets, plain, batch, x0, t, point)
        return Loss(prediction, target, weight=weight, t=t)

    def _in_space(
        self, nets: Networks, model: Any, batch: Batch, x0: Tensor, t: Tensor, point: Point
    ) -> tuple[Tensor, Tensor]:
        """Prediction and target of the kind that is compared."""
        path, source, kind, data_std = nets.transport.interpolant, nets.transport.source, "v", 0.5
        if isinstance(model, Prediction):
            if model.interpolant != path:
                raise InputError(f"the network predicts on {model.interpolant}, but the transport's path is {path}")
            kind, data_std = model.kind, model.data_std
            if model.moments != moments(source, kind):
                raise InputError(
                    f"the network predicts {kind!r} for the source {model.source}, but the transport's is {source}"
                )
            output = model.output(point.x, t, **batch.cond)
        else:
            output = nets.model(point.x, t, **batch.cond)
        space = kind if self.space is None else self.space
        if space == kind == "v":
            return output, point.v
        path = _affine(path, f"comparing in {space!r}")
        target = path.of_pair(x0, batch.x1, t, space, source, data_std=data_std)
        return path.convert(output, point.x, t, kind, space, source, data_std=data_std), target


def _affine(path: object, what: str) -> AffineInterpolant:
    if not isinstance(path, AffineInterpolant):
        raise InputError(f"{what} needs an affine path, and {type(path).__name__} is none: compare velocities")
    return path
