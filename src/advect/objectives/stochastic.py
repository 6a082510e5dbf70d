r"""Losses of stochastic interpolants x_t = I(t, x0, x1) + gamma(t) z, z ~ N(0, I).

    field                         target at x_t = I + gamma z
    b = E[dI/dt + gamma' z | x]   dI/dt + gamma' z          the velocity
    v = E[dI/dt | x]              dI/dt
    s = E[-z / gamma | x]         -z / gamma                the score
    eta = E[z | x]                z                         s = -eta / gamma

A one-sided path (Gaussian x0 in the role of z) is ordinary flow matching on an affine path.

Source: arXiv 2303.08797, theorems 2.7 and 2.8 and section 6.1. Its published code trains eta with the opposite sign,
and draws t on all of [0, 1] although 1/gamma is infinite at both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.errors import InputError
from advect.interpolants import Decomposition, StochasticInterpolant, Zero
from advect.networks import EtaScore, Network
from advect.objectives.base import Loss, Networks, Objective
from advect.randomness import randn_like
from advect.times import TimeDensity, Uniform
from advect.transport import Transport

Field = Literal["b", "v", "s", "eta"]
Form = Literal["mse", "paper"]


class _Draw(NamedTuple):
    """One batch on the path; for an antithetic pair all but `parts` and `z` hold two copies, z and then -z."""

    parts: Decomposition
    z: Tensor
    x: Tensor
    t: Tensor
    cond: dict[str, Tensor]
    copies: int

    def target(self, field: Field) -> Tensor:
        """What a network of this field is to say, shape of `x`."""
        parts, z = self.parts, self.z
        if field == "v":
            return torch.cat([parts.d_mean] * self.copies)
        if field == "b":
            noise = parts.d_gamma * z
            targets = [parts.d_mean + noise, parts.d_mean - noise]
        else:
            noise = z if field == "eta" else -z / parts.gamma
            targets = [noise, -noise]
        return torch.cat(targets[: self.copies])


class InterpolantLoss(Objective):
    r"""Regress one field of a stochastic interpolant.

    With antithetic pairs the network sees I + gamma z and I - gamma z with their own targets, in one call of twice
    the batch. For a Brownian gamma the variance of the gradient then stays bounded near the ends, where gamma' and
    1/gamma do not.

    Args:
        field: What `model` learns: "b", "v", "s" or "eta" (in the paper's sign, eta = E[z|x]).
        times: Density of training times; None for uniform on [0.001, 0.999].
        antithetic: Whether every draw of z is used with both signs.
        form: "mse" is the mean of |f - target|^2. "paper" is the mean of |f|^2/2 - f.target, which has half its
            gradient: the constant it leaves out is infinite for b and s with a Brownian gamma. It can be negative.

    Raises:
        InputError: If the path has no latent to speak of, or times reach an end where the target is infinite.
    """

    def __init__(
        self,
        field: Field = "b",
        times: TimeDensity | None = None,
        antithetic: bool = True,
        form: Form = "mse",
    ) -> None:
        super().__init__()
        self.times = _times(times, field)
        self.field: Field = field
        self.antithetic = antithetic
        self.form: Form = _form(form)

    def refusal(self, transport: Transport) -> str | None:
        return _no_velocity(self.field, transport, "field")

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        path = _path(nets, self.field)
        draw = _draw(path, self.times, batch, generator, self.antithetic)
        return _regress(nets.model, self.field, draw, batch, self.form)


class VelocityAndScore(Objective):
    r"""Regress two fields with two networks on the same draws: L = L_velocity + L_score.

    `model` learns the velocity, the network of the role "score" the other; both are what an SDE of any noise level
    needs. eta is the better choice near the ends, where s is infinite; its network is then wrapped in
    :class:`~advect.networks.EtaScore`, which a Flow can ask for the score; :func:`advect.train` wraps a network of
    advect by itself. With "v" the sum b = v + gamma' eta is the caller's to take: ``advect.train`` asks for "b".

    Args:
        velocity: "b" or "v".
        score: "eta" or "s".
        times: Density of training times; None for uniform on [0.001, 0.999].
        antithetic: Whether every draw of z is used with both signs.
        form: See :class:`InterpolantLoss`.

    Raises:
        InputError: If the path has no latent, or times reach an end where a target is infinite.
    """

    needs: ClassVar[dict[str, str]] = {"score": "trained field"}

    def __init__(
        self,
        velocity: Literal["b", "v"] = "b",
        score: Literal["eta", "s"] = "eta",
        times: TimeDensity | None = None,
        antithetic: bool = True,
        form: Form = "mse",
    ) -> None:
        super().__init__()
        if velocity not in ("b", "v") or score not in ("eta", "s"):
            raise InputError(f"velocity={velocity!r}, score={score!r}: choose 'b' or 'v', and 'eta' or 's'")
        self.times = _times(_times(times, velocity), score)
        self.velocity: Field = velocity
        self.score: Field = score
        self.antithetic = antithetic
        self.form: Form = _form(form)

    def refusal(self, transport: Transport) -> str | None:
        return _no_velocity(self.velocity, transport, "velocity")

    def dressed(self, role: str, network: nn.Module, transport: Transport) -> nn.Module:
        path = transport.interpolant
        if role != "score" or self.score != "eta" or not isinstance(path, StochasticInterpolant):
            return network
        return EtaScore(network, path) if isinstance(network, Network) else network

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        path = _path(nets, self.score)
        draw = _draw(path, self.times, batch, generator, self.antithetic)
        _says_score(nets["score"], self.score)
        velocity = _regress(nets.model, self.velocity, draw, batch, self.form).per_sample
        score = _regress(nets["score"], self.score, draw, batch, self.form).per_sample
        logs = {self.velocity: velocity.detach().mean(), self.score: score.detach().mean()}
        return Loss(per_sample=velocity + score, t=draw.t[: len(batch)], logs=logs)


def _times(times: TimeDensity | None, field: Field) -> TimeDensity:
    if field not in ("b", "v", "s", "eta"):
        raise InputError(f"field is {field!r}: choose 'b', 'v', 's' or 'eta'")
    if times is None:
        return Uniform(1e-3, 1 - 1e-3)
    if field in ("b", "s") and isinstance(times, Uniform) and (times.start == 0 or times.end == 1):
        raise InputError(
            f"times is {times}, which reaches an end of the path, where the target of {field!r} can be infinite: "
            "use Uniform(0.001, 0.999)"
        )
    return times


def _no_velocity(field: Field, transport: Transport, argument: str) -> str | None:
    """Why a network of this field moves nothing by itself, if it does not."""
    path = transport.interpolant
    bare = isinstance(path, StochasticInterpolant) and isinstance(path.gamma, Zero)
    if field == "b" or (field == "v" and bare):  # without a latent v = b
        return None
    means = {"v": "v = E[dI/dt|x], which lacks gamma' E[z|x]", "s": "the score", "eta": "eta = E[z|x]"}[field]
    return (
        f"{argument} is {field!r}: the network would learn {means}, and a Flow that integrated it as the velocity "
        f"would be wrong: take {argument}='b', with VelocityAndScore where a score is wanted too"
    )


def _form(form: Form) -> Form:
    if form not in ("mse", "paper"):
        raise InputError(f"form is {form!r}: choose 'mse' or 'paper'")
    return form


def _path(nets: Networks, field: Field) -> StochasticInterpolant:
    path = nets.transport.interpolant
    if not isinstance(path, StochasticInterpolant):
        raise InputError(f"the path {type(path).__name__} has no latent z of its own: train it with FlowMatching")
    if isinstance(path.gamma, Zero) and field in ("s", "eta"):
        raise InputError(f"the path has gamma = 0, so there is no {field!r} to learn: choose a gamma, or 'b' or 'v'")
    return path


def _says_score(network: Callable[..., Any], field: Field) -> None:
    """A Flow takes the role "score" for the score itself: a bare network of eta there would be wrong in silence."""
    if field == "eta" and isinstance(network, nn.Module) and not hasattr(network, "output"):
        raise InputError(
            f"the network {type(network).__name__} of the role 'score' learns eta, but a Flow would read the score "
            "from it: wrap it, EtaScore(network, interpolant)"
        )


def _draw(
    path: StochasticInterpolant,
    times: TimeDensity,
    batch: Batch,
    generator: torch.Generator | None,
    antithetic: bool,
) -> _Draw:
    x1, x0 = batch.x1, batch.x0
    assert x0 is not None
    t = times.sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device)
    parts = path.decompose(x0, x1, t)
    z = randn_like(x1, generator)
    noise = parts.gamma * z
    if not antithetic:
        return _Draw(parts, z, parts.mean + noise, t, batch.cond, 1)
    x = torch.cat([parts.mean + noise, parts.mean - noise])
    cond = {name: torch.cat([value, value]) for name, value in batch.cond.items()}
    return _Draw(parts, z, x, torch.cat([t, t]), cond, 2)


def _regress(model: Callable[..., Any], field: Field, draw: _Draw, batch: Batch, form: Form) -> Loss:
    said = getattr(model, "output", model) if field == "eta" else model  # an EtaScore called as it is says the score
    loss = Loss(
        said(draw.x, draw.t, **draw.cond),
        draw.target(field),
        weight=batch.weight,
        t=draw.t[: len(batch)],
        copies=draw.copies,
    )
    if form == "mse":
        return loss
    prediction, target = loss.prediction, loss.target
    assert prediction is not None
    assert target is not None
    terms = (0.5 * prediction - target) * prediction
    plain = terms.reshape(draw.copies, len(batch), -1).mean((0, 2))
    return Loss(per_sample=plain if batch.weight is None else batch.weight * plain, t=loss.t)
