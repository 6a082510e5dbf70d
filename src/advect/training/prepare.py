"""From what a user gives to a job that is known to fit: parts resolved, networks built, one call made of each."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.codecs import Codec, Identity
from advect.conditions import Conditions
from advect.couplings import Independent, Paired
from advect.data.base import Data
from advect.errors import InputError, expect
from advect.fields import kind_of
from advect.files import hash_tensors
from advect.flow import Flow
from advect.objectives import FlowMatching, Networks, Objective
from advect.randomness import generator
from advect.rehearsal import default_sampler, rehearse, rehearse_loss
from advect.sampler import Sampler
from advect.training.inputs import (
    as_conditions,
    as_data,
    as_frozen,
    as_network,
    encode,
    fit_codec,
    fit_transport,
    start_weights,
)
from advect.training.job import Job
from advect.training.module import at_rest, modules_in
from advect.training.monitor import Monitor
from advect.training.settings import TrainSettings
from advect.training.signature import describe
from advect.transport import Transport


def prepare(
    network: nn.Module | Callable[..., nn.Module],
    data: Any,
    *,
    objective: Objective | None = None,
    transport: Transport | None = None,
    codec: Codec | None = None,
    conditions: Conditions | None = None,
    drop: float | dict[str, float] | None = None,
    sampler: Sampler | None = None,
    others: Mapping[str, Any] | None = None,
    settings: TrainSettings | None = None,
    seed: int = 0,
    stage: str = "train",
    start_from: str | os.PathLike[str] | Flow | None = None,
    monitor: Monitor | None = None,
) -> tuple[Job, dict[str, Any]]:
    """The job and its config for :func:`advect.train`, whose arguments these are. Writes nothing.

    Raises:
        InputError: If something does not fit; the sentence names it and the mend.
    """
    for name, value, kind, like in (
        ("objective", objective, Objective, "FlowMatching()"),
        ("transport", transport, Transport, "Transport(coupling=MinibatchOT())"),
        ("codec", codec, Codec, "Standardize()"),
        ("sampler", sampler, Sampler, "Sampler(Heun(), TimeGrid(20))"),
    ):
        if value is not None:
            expect(name, value, kind, like)
    data = as_data(data)
    if data.size("train") == 0:
        raise InputError(f"{type(data).__name__} has no training samples: look at its path and splits")
    objective = FlowMatching() if objective is None else objective
    codec = Identity() if codec is None else codec
    conditions = as_conditions(data, conditions, drop)
    settings = TrainSettings() if settings is None else settings
    fit_codec(codec, data, seed)
    few = data.batch("train", torch.arange(min(2, data.size("train"))))
    missing = [item.name for item in conditions.items if item.name not in few.cond]
    if missing:
        raise InputError(f"conditions names {missing}, but what comes with the data is {sorted(few.cond)}")
    few = few.replace(cond={item.name: few.cond[item.name] for item in conditions.items})
    transport = _transport(transport, few)
    fit_transport(transport, codec, data, conditions, seed)
    if (refusal := objective.refusal(transport)) is not None:
        raise InputError(refusal)
    model = as_network(network, data, codec, conditions, objective, seed, "model")
    networks = {"model": objective.dressed("model", model, transport)}
    given = dict(others or {})
    for role, kind in objective.needs.items():
        if role not in given and role not in ("model", "ema"):
            raise InputError(
                f"the objective {type(objective).__name__} needs a network of the role {role!r} ({kind}), and there is "
                f"none: pass others={{{role!r}: ...}}, a network or the folder of a saved flow"
            )
    frozen = {}
    for role, value in given.items():
        kind = objective.needs.get(role)
        if kind is None:
            raise InputError(
                f"others names {role!r}, but the objective {type(objective).__name__} asks for {list(objective.needs)}"
            )
        if kind.startswith("trained"):
            made = as_network(value, data, codec, conditions, objective, seed, role)
            networks[role] = objective.dressed(role, made, transport)
        else:
            frozen[role] = as_frozen(value, data, codec, conditions, objective, seed, role)
    if start_from is not None:
        start_weights(start_from, networks)
    unknown = set(settings.groups) - {*networks, "objective"}
    if unknown:
        raise InputError(f"groups names {sorted(unknown)}, but what is trained is {[*networks, 'objective']}")
    if "ema" in objective.needs and settings.ema is None:
        raise InputError(
            f"the objective {type(objective).__name__} needs an average of the weights: give ema=PowerEMA()"
        )
    for role, net in networks.items():
        _try(role, net, codec, few, two_times=_kind(objective, role).endswith("map"))
    nets = Networks(networks["model"], networks["model"], {**networks, **frozen}, transport)
    _try_loss(objective, nets, codec, few)
    _rehearse_loss(objective, nets, codec, data, conditions)
    others = {role: net for role, net in networks.items() if role != "model"}
    shape = codec.latent_shape(data.shape)
    flow = Flow(networks["model"], transport, codec, conditions, sampler, shape, others)
    if sampler is None:
        sampler = default_sampler(flow)
    else:
        rehearse(flow)
    config = {
        "network": describe(networks["model"]),
        "others": {role: describe(net) for role, net in networks.items() if role != "model"},
        "frozen": {role: [describe(net), *map(_weights, modules_in(net))] for role, net in frozen.items()},
        "data": describe(data),
        "objective": describe(objective),
        "transport": describe(transport),
        "codec": describe(codec),
        "conditions": describe(conditions),
        "sampler": describe(sampler),
        "settings": describe(settings),
        "start_from": "a flow" if isinstance(start_from, Flow) else None if start_from is None else str(start_from),
        "seed": seed,
    }
    job = Job(
        networks,
        data,
        objective,
        transport,
        codec,
        conditions,
        settings,
        seed=seed,
        stage=stage,
        sampler=sampler,
        frozen=frozen,
        record={name: config[name] for name in ("data", "objective", "settings", "seed")}
        | {"stage": stage, "class_names": None if data.class_names is None else list(data.class_names)},
        monitor=Monitor() if monitor is None else monitor,
    )
    return job, config


def _transport(transport: Transport | None, few: Batch) -> Transport:
    """Data that bring their own x0 are paired; a coupling that would lose this is refused."""
    if transport is None:
        return Transport() if few.x0 is None else Transport(coupling=Paired())
    if few.x0 is not None and isinstance(transport.coupling, Independent) and transport.inherited_refusal is None:
        raise InputError(
            "the data bring x0, but the coupling is Independent, which says that x0 is drawn without regard to x1: "
            "give transport=Transport(coupling=Paired())"
        )
    return transport


def _kind(objective: Objective, role: str) -> str:
    return objective.needs.get(role, "field").replace("_", " ")


def _weights(module: nn.Module) -> str:
    """A teacher is what its weights are, so a run with other ones is another run."""
    return hash_tensors(module.state_dict())


@torch.no_grad()
def _try(role: str, network: nn.Module, codec: Codec, few: Batch, *, two_times: bool) -> None:
    """Call a network on two samples: what does not fit is found before anything is written."""
    if type(network).forward is nn.Module.forward or kind_of(network) == "kernel":
        return  # another kind of model, with methods of its own
    weight = next(network.parameters(), None)
    where = torch.device("cpu") if weight is None else weight.device
    dtype = weight.dtype if weight is not None and weight.is_floating_point() else None
    x = encode(codec, few.x1).to(where, dtype)
    t = torch.full((len(x),), 0.5, device=where, dtype=x.dtype)
    cond = {name: v.to(where, dtype if v.is_floating_point() else None) for name, v in few.cond.items()}
    was_training = network.training
    network.eval()
    try:
        out = network(x, *((t, t) if two_times else (t,)), **cond)
    except InputError:
        raise
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        times = "x, r, t" if two_times else "x, t"
        raise InputError(
            f"the network {type(network).__name__} ({role}) cannot be called as f({', '.join([times, *cond])}) with x "
            f"of shape {tuple(x.shape)}: {' '.join(str(error).split())}"
        ) from error
    finally:
        network.train(was_training)
    if isinstance(out, Tensor) and out.shape != x.shape:
        raise InputError(
            f"the network {type(network).__name__} ({role}) gives shape {tuple(out.shape)} for x of shape "
            f"{tuple(x.shape)}: a velocity has the shape of x"
        )


@torch.no_grad()
def _try_loss(objective: Objective, nets: Networks, codec: Codec, few: Batch) -> None:
    """Take one loss of two samples: an objective that refuses its path or networks does so before a folder is made."""
    dtype = next((p.dtype for p in objective.parameters()), few.x1.dtype)
    batch = few.replace(
        x1=encode(codec, few.x1).to(dtype), x0=None if few.x0 is None else encode(codec, few.x0).to(dtype)
    )
    modules = [net for net in {nets.model, *nets.others.values()} if isinstance(net, nn.Module)]
    # only what it refuses: networks still lie where they came from, and an error of another kind has its own traceback
    with at_rest(modules), torch.random.fork_rng([]), contextlib.suppress(RuntimeError, TypeError, IndexError):
        copy.deepcopy(objective)(nets, batch, generator(0, "try"))


def _rehearse_loss(objective: Objective, nets: Networks, codec: Codec, data: Data, conditions: Conditions) -> None:
    """A loss of many samples by networks that stand still: whether it is finite wherever the objective looks."""
    batch = data.batch("train", torch.arange(min(8, data.size("train"))))
    rows = max(2, min(64, 2**22 // batch.x1[0].numel()))  # enough that every time is drawn, and little memory
    batch = batch.select(torch.arange(rows) % len(batch))
    batch = batch.replace(
        x1=encode(codec, batch.x1),
        x0=None if batch.x0 is None else encode(codec, batch.x0),
        cond={item.name: batch.cond[item.name] for item in conditions.items},
    )
    with torch.random.fork_rng([]), contextlib.suppress(RuntimeError, TypeError, IndexError, AttributeError):
        rehearse_loss(objective, nets, batch)
