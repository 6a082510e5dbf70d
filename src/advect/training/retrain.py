"""Reflow and distillation of a trained flow, from its pairs on disk or drawn on the way."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from advect.codecs import Identity
from advect.data.base import Data
from advect.distillation import KStep, OneStepEncoder, OnlineReflow, reflow_transport
from advect.errors import InputError
from advect.flow import Flow
from advect.objectives import Objective
from advect.sampler import Sampler
from advect.solvers import Euler
from advect.times import Reversed, TimeGrid
from advect.training.api import train


def reflow(flow: Flow, pairs: Data, *, objective: Objective | None = None, **options: Any) -> Flow:
    """Train a copy of a flow on pairs that it made: fine-tuned from its weights, with a new optimiser and average.

    Args:
        flow: The flow that made the pairs; left as it is.
        pairs: States in pairs, such as :class:`advect.data.StoredPairs`.
        objective: What is regressed on them: flow matching (reflow) by default, or a distillation such as
            ``KStep(k)``, whose flow is then sampled in k Euler steps, or ``OneStepEncoder()``, whose flow refuses
            to sample and goes back by ``encode(x, solver=Euler(), grid=1)``.
        **options: Of :func:`advect.train`: settings, seed, folder, monitor, or single settings.

    Returns:
        A flow with the teacher's codec, no score (`score_refusal` says why), and no guidance of its own: the
        teacher's is in the pairs.
    """
    trained = train(
        copied(flow),
        pairs,
        objective=objective,
        transport=reflow_transport(flow.transport),
        codec=Identity(),
        conditions=flow.conditions,
        **options,
    )
    sampler = flow.sampler.but(guidance=())
    if isinstance(objective, KStep):
        sampler = Sampler(Euler(), TimeGrid(objective.k))
    if isinstance(objective, OneStepEncoder):  # knows the way back alone, and only at t=1
        sampler = Sampler(Euler(), Reversed(TimeGrid(1)))
    record = recorded(trained, flow) | {"pairs": trained.record["data"]}
    return Flow(trained.network, trained.transport, flow.codec, flow.conditions, sampler, flow.shape, record=record)


def reflow_online(flow: Flow, data: Data, *, objective: OnlineReflow | None = None, **options: Any) -> Flow:
    """Train a copy of a flow on pairs that the flow draws anew for every batch.

    Args:
        flow: The teacher, with its sampler's guidance; left as it is.
        data: Gives the conditions, and x0 if its batches bring one (two domains).
        objective: How the pairs are drawn.
        **options: Of :func:`advect.train`.

    Returns:
        A flow with the teacher's codec, no score, and no guidance of its own.
    """
    trained = train(
        copied(flow),
        data,
        objective=OnlineReflow() if objective is None else objective,
        transport=reflow_transport(flow.transport, online=True),
        codec=flow.codec,
        conditions=flow.conditions,
        others={"teacher": flow},
        **options,
    )
    sampler, record = flow.sampler.but(guidance=()), recorded(trained, flow)
    return Flow(trained.network, trained.transport, flow.codec, flow.conditions, sampler, flow.shape, record=record)


def recorded(trained: Flow, teacher: Flow) -> dict[str, Any]:
    """How it was made; the data it is measured on, and the names of the classes, are the teacher's."""
    return trained.record | {name: teacher.record.get(name) for name in ("data", "class_names")}


def copied(flow: Flow) -> nn.Module:
    """The network of a flow, copied to be trained on."""
    return copy.deepcopy(_module(flow)).requires_grad_(True)


def _module(flow: Flow) -> nn.Module:
    if not isinstance(flow.network, nn.Module):
        raise InputError(f"the flow's network is a {type(flow.network).__name__}, which has no weights to train")
    return flow.network
