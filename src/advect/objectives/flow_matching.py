"""Flow matching: regress the velocity of the path, or any other prediction of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.errors import InputError
from advect.interpolants import KINDS, AffineInterpolant, Kind, Point
from advect.interpolants.conversions import moments
from advect.networks import Network, Prediction
from advect.objectives.base import Loss, Networks, Objective
from advect.objectives.stable_targets import stable_pair, stable_refusal
from advect.objectives.weights import TimeWeight
from advect.times import TimeDensity, Uniform
from advect.transport import Transport


class FlowMatching(Objective):
    r"""L = E w(t) |prediction - target|^2, the mean over coordinates.

    A plain network f(x, t) is regressed on the velocity dx_t/dt. One wrapped in :class:`~advect.networks.Prediction`
    is regressed on what it predicts (x1, x0, the score, F, ...), in its own units; `predicts` wraps the network of a
    training so.

    Args:
        times: Density of training times.
        weight: w(t); it is applied in the space its paper writes it for. None for 1.
        space: The kind of prediction in which to compare; None for that of the weight, else the network's own. The
            network's output is converted to it, and a conversion can be infinite at an end of time.
        predicts: What the network predicts, for :func:`advect.train`, which then wraps it in a Prediction on the
            path and source of the transport; None leaves it as it is (a velocity, if it is no Prediction).
        data_std: Standard deviation of the data, read where `predicts` is "F" (EDM).
        stable: S, number of samples of each batch that are trained on, the whole batch being the reference over which
            their targets are averaged (see :mod:`advect.objectives.stable_targets`): lower variance, a bias of order
            1/batch. PFGM++ takes 512 of 4096. None trains on all, with their own targets.

    Raises:
        InputError: If the space is unknown, or not the one the weight is written for; or if stable targets are asked
            of a transport that has none, or with conditions.

    Source: arXiv 2210.02747 section 3.2, arXiv 2209.03003 section 2.
    """

    def __init__(
        self,
        times: TimeDensity | None = None,
        weight: TimeWeight | None = None,
        space: Kind | None = None,
        predicts: Kind | None = None,
        data_std: float = 0.5,
        stable: int | None = None,
    ) -> None:
        super().__init__()
        self.times: TimeDensity = Uniform() if times is None else times
        self.weight = weight
        for name, kind in (("space", space), ("predicts", predicts)):
            if kind is not None and kind not in KINDS:
                raise InputError(f"{name} is {kind!r}: choose one of {', '.join(KINDS)}")
        if not data_std > 0:
            raise InputError(f"data_std is {data_std}: the standard deviation of the data is above 0")
        if stable is not None and stable < 1:
            raise InputError(f"stable is {stable}: at least 1 sample of each batch is trained on")
        own = None if weight is None else weight.space
        if own is not None and space is not None and space != own:
            raise InputError(f"space is {space!r}, but {type(weight).__name__} is written for {own!r}: leave space out")
        self.space: Kind | None = own if space is None else space
        self.predicts: Kind | None = predicts
        self.data_std, self.stable = data_std, stable

    def refusal(self, transport: Transport) -> str | None:
        return None if self.stable is None else stable_refusal(transport)

    def dressed(self, role: str, network: nn.Module, transport: Transport) -> nn.Module:
        if role != "model" or self.predicts is None or isinstance(network, Prediction):
            return network
        if not isinstance(network, Network):
            raise InputError(f"predicts is {self.predicts!r}, but {type(network).__name__} is no Network of advect")
        path = _affine(transport.interpolant, f"a network that predicts {self.predicts!r}")
        return Prediction(network, self.predicts, path, transport.source, self.data_std)

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        reference = batch.x1
        if self.stable is not None:
            batch = _first(batch, self.stable)
        x1, x0, path = batch.x1, batch.x0, nets.transport.interpolant
        assert x0 is not None
        t = self.times.sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device)
        point = path.sample(x0, x1, t, generator)
        if self.stable is not None:
            batch, x0, point = _averaged(nets.transport, batch, x0, t, point, reference)
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


def _first(batch: Batch, count: int) -> Batch:
    """The samples that are trained on; the others are the reference alone."""
    if batch.cond:
        raise InputError(
            f"stable targets average over the whole batch, whatever its conditions ({', '.join(batch.cond)}): train "
            "without conditions, or leave `stable` out"
        )
    if batch.rows is not None:
        raise InputError("stable targets compare whole samples, and these are ragged: leave `stable` out")
    return batch.select(torch.arange(min(count, len(batch)), device=batch.x1.device))


def _averaged(
    transport: Transport, batch: Batch, x0: Tensor, t: Tensor, point: Point, reference: Tensor
) -> tuple[Batch, Tensor, Point]:
    """The same states with stable ends."""
    if (refusal := stable_refusal(transport)) is not None:
        raise InputError(refusal)
    path = _affine(transport.interpolant, "stable targets")
    x0, x1 = stable_pair(point.x, t, x0, batch.x1, reference, path, transport.source)
    return batch.replace(x1=x1), x0, Point(point.x, path.sample(x0, x1, t).v)


def _affine(path: object, what: str) -> AffineInterpolant:
    if not isinstance(path, AffineInterpolant):
        raise InputError(f"{what} needs an affine path, and {type(path).__name__} is none: compare velocities")
    return path
