"""A sampler tried out on a flow whose networks stand still: what it refuses, it refuses before anything is trained.

Every check that a solver, a grid, a guidance rule or a source makes on the way is made here by itself, at the cost of
the solver alone. So what can be combined follows from what the parts say, and from no list of their names.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.errors import InputError
from advect.fields import Kind, Run, kind_of
from advect.flow import Flow
from advect.interpolants import as_chain
from advect.networks import EtaScore, Prediction
from advect.objectives import Networks, Objective
from advect.randomness import generator
from advect.sampler import Sampler
from advect.solvers import EulerLast, NotReached
from advect.solvers.base import nodes
from advect.sources import Gaussian
from advect.times import TimeGrid


class _Still(nn.Module):
    """A network of a given kind whose output is zero."""

    def __init__(self, kind: Kind, spec: Any = None) -> None:
        super().__init__()
        if spec is not None:
            self.spec = spec
        if kind == "flow map":
            self.velocity = self.forward

    def forward(self, x: Tensor, *times: Tensor, **cond: Tensor) -> Tensor:
        return torch.zeros_like(x)


def rehearse_loss(objective: Objective, nets: Networks, batch: Batch, seed: int = 0) -> None:
    """Take the loss of a batch as it would be, with networks that stand still.

    Args:
        objective: What is regressed.
        nets: The networks by role, and the transport.
        batch: Encoded data, enough of them that every time at which the objective looks is drawn.
        seed: Seed of the draws.

    Raises:
        InputError: If the loss is not finite though the data are.
    """
    if kind_of(nets.model) == "kernel" or not bool(torch.isfinite(batch.x1).all()):
        return
    still = Networks(
        _like(nets.model, kind_of(nets.model)),
        None if nets.ema is None else _like(nets.ema, kind_of(nets.ema)),
        others={role: _like(network, kind_of(network)) for role, network in nets.others.items()},
        transport=nets.transport,
    )
    with torch.no_grad():
        loss = copy.deepcopy(objective)(still, batch, generator(seed, "rehearsal"))
    if not bool(torch.isfinite(loss.per_sample).all()):
        predicted = f" that predicts {nets.model.kind!r}" if isinstance(nets.model, Prediction) else ""
        raise InputError(
            f"the loss of {type(objective).__name__} is not finite for a network{predicted}: it asks for a velocity at "
            "an end of time where there is none; predict 'v', or take times that keep off the ends"
        )


def rehearse(flow: Flow, sampler: Sampler | None = None) -> Run:
    """Sample twice from a flow as it would be, with networks that stand still.

    Args:
        flow: Its transport, conditions and shape, the kind of its networks and how they are worn.
        sampler: How it is to be sampled; None is its own.

    Returns:
        The counts of the two samples, as the real networks would be called.

    Raises:
        InputError: Whatever a part refuses, or a solver that leaves the finite numbers on this path.
    """
    sampler = flow.sampler if sampler is None else sampler
    flow.check(sampler)
    run = Run()
    if flow.kind == "kernel":  # nothing to convert, but a chain may have been trained at some times alone
        path = flow.transport.interpolant
        sampler.solver.check(flow.context())
        for r, t in itertools.pairwise(nodes(sampler.grid, path)[0]):
            as_chain(path).check(r, t)
        return run
    still = Flow(
        _like(flow.network, flow.kind),
        flow.transport,
        conditions=flow.conditions,
        sampler=Sampler.for_kind(flow.kind),
        shape=flow.shape,
        others={role: _like(network, "field") for role, network in flow.others.items()},
    )
    still.weights_hash = flow.weights_hash  # parts that were fitted on the flow are at home here
    if flow._weak:
        still._weak = (_like(flow._weak[0], flow.kind),)
    names = {name for names in flow.conditions.drop for name in names.split(",")}
    told = {item.name: 0 if item.discrete else torch.zeros(item.width) for item in flow.conditions.items}
    guided = any(rule.against == "null" for rule in sampler.guidance)
    cond = {name: value for name, value in told.items() if guided or name not in names}
    how = {name: getattr(sampler, name) for name in ("solver", "grid", "source", "guidance")}
    try:
        ends: Any = still.sample(2, seed=0, run=run, **how, **cond)  # pyright: ignore
        finite = bool(torch.isfinite(ends).all())
    except NotReached:
        finite = False
    if not finite:
        raise InputError(
            f"{sampler.solver} on {sampler.grid} leaves the finite numbers, as what this network predicts gives no "
            "velocity at one end of time: take EulerLast(...) if that is t=1, or a grid like TimeGrid(25, 0.001, 0.999)"
        )
    return run


def default_sampler(flow: Flow) -> Sampler:
    """The first usual sampler that suits a flow: a network that predicts x1 or x0 has no velocity at one end of time.

    Args:
        flow: What is to be sampled.

    Raises:
        InputError: What the usual sampler is refused for, if none suits.
    """
    usual = Sampler.for_kind(flow.kind, flow.transport.interpolant)
    if flow.kind != "field":
        return usual
    steps = usual.grid.steps
    last = EulerLast(usual.solver)
    choices = [
        usual,
        Sampler(last, usual.grid),
        Sampler(last, TimeGrid(steps, 1e-3, 1.0)),
        Sampler(usual.solver, TimeGrid(steps, 1e-3, 1 - 1e-3)),
    ]
    training_only = flow.transport.source.needs_x1
    for sampler in choices:
        with contextlib.suppress(InputError):
            rehearse(flow, replace(sampler, source=Gaussian()) if training_only else sampler)
            return sampler
    rehearse(flow, usual)  # says why
    return usual


def _like(network: Any, kind: Kind) -> nn.Module:
    still = _Still(kind, getattr(network, "spec", None))
    if isinstance(network, Prediction):
        worn = network.interpolant, network.source, network.data_std
        return Prediction(still, network.kind, *worn)  # pyright: ignore[reportArgumentType]
    if isinstance(network, EtaScore):
        return EtaScore(still, network.interpolant)  # pyright: ignore[reportArgumentType]
    return still
