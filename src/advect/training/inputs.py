"""What a user hands to `advect.train` (tensors, a class, a number), turned into parts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from advect.batch import Batch
from advect.codecs import Codec
from advect.conditions import Conditions
from advect.data.base import Data
from advect.data.tensors import Tensors
from advect.errors import InputError
from advect.files import load_tensors
from advect.flow import Flow
from advect.networks import NetSpec, Network
from advect.objectives import Objective
from advect.randomness import generator, randperm, seed_of
from advect.training.checkpoints import find_flow
from advect.transport import Transport


def as_data(data: Any) -> Data:
    """Data as they are, or a tensor (N, *shape), or (tensor, labels), or (tensor, {name: values})."""
    if isinstance(data, Data):
        return data
    x1: Any = data
    given = None
    if isinstance(data, (tuple, list)) and len(data) == 2:
        x1, given = data
    if given is None:
        return Tensors(x1)
    if not isinstance(given, dict):
        return Tensors(x1, given)
    return Tensors(x1, given.get("label"), {name: value for name, value in given.items() if name != "label"})


def as_conditions(data: Data, conditions: Conditions | None, drop: float | dict[str, float] | None) -> Conditions:
    """The conditions of the data, or those given; a number as `drop` drops all of them together."""
    items = data.conditions if conditions is None else conditions.items
    if drop is None:
        return Conditions(items, {} if conditions is None else conditions.drop)
    if not isinstance(drop, dict):
        drop = {",".join(item.name for item in items): float(drop)} if items and drop else {}
    return Conditions(items, drop)


def as_network(
    network: nn.Module | Callable[[NetSpec], nn.Module],
    data: Data,
    codec: Codec,
    conditions: Conditions,
    objective: Objective,
    seed: int,
    role: str,
) -> nn.Module:
    """The network itself, or the one that a class or function makes for these data, its weights drawn from the seed."""
    if isinstance(network, nn.Module):
        return network
    times = 2 if objective.needs.get(role, "").replace("_", " ").endswith("flow map") else 1
    spec = NetSpec(codec.latent_shape(data.shape), conditions.items, times)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed_of(seed, "init", role))
        try:
            made = network(spec)
        except InputError:
            raise
        except (RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
            maker = getattr(network, "func", network)  # a class, or a partial of one
            raise InputError(
                f"the network {getattr(maker, '__name__', maker)} ({role}) cannot be built for a state of shape "
                f"{spec.shape}: {' '.join(str(error).split())}"
            ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"network made a {type(made).__name__}, not an nn.Module: give a module, or a class of one")
    return made


def as_frozen(
    value: Any, data: Data, codec: Codec, conditions: Conditions, objective: Objective, seed: int, role: str
) -> Callable[..., Any]:
    """A network that is called and not trained: of a Flow (with its guidance), of a saved one, or as it is."""
    if value is None:
        raise InputError(f"others names 'previous' for {role!r}, but no stage before has left a Flow: train one first")
    if isinstance(value, (str, os.PathLike)):
        value = Flow.from_pretrained(find_flow(value))
    if not isinstance(value, Flow):
        return (
            value if isinstance(value, nn.Module) else as_network(value, data, codec, conditions, objective, seed, role)
        )
    return value.field(guidance=value.sampler.guidance)


def start_weights(start_from: str | os.PathLike[str] | Flow, networks: dict[str, nn.Module]) -> None:
    """Load the weights of a saved Flow, or of a run, into networks of the same roles.

    Those of a velocity network start a flow map of the same arguments (:meth:`advect.networks.Network.from_field`).

    Raises:
        InputError: If there is no saved Flow, or a weight is missing or has another shape; the sentence names it.
    """
    if isinstance(start_from, Flow):
        tensors, start_from = start_from.state_dict(), "a flow"
    else:
        tensors = load_tensors(find_flow(start_from) / "model.safetensors")
    for role, network in networks.items():
        prefix = "network." if role == "model" else f"others.{role}."
        given = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if isinstance(network, Network):
            given = network.from_field(given)
        wanted = network.state_dict()
        for name in sorted(given.keys() | wanted.keys()):
            there, here = given.get(name), wanted.get(name)
            if there is None or here is None or there.shape != here.shape:
                raise InputError(
                    f"start_from is {start_from}, whose weight {name} of {role!r} has shape "
                    f"{None if there is None else tuple(there.shape)} and the network's "
                    f"{None if here is None else tuple(here.shape)}: build the network with the same arguments"
                )
        network.load_state_dict(given)


def encode(codec: Codec, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """States of data (N, *shape), where the data are, by a codec that may lie on another device with its weights."""
    own = next(itertools.chain(codec.parameters(), codec.buffers()), x)
    return codec.encode(x.to(own.device), generator).to(x.device)


def fit_codec(codec: Codec, data: Data, seed: int) -> None:
    """Fit a codec that is found on data (scale, shift) and has not been fitted yet."""
    fit = getattr(codec, "fit", None)
    if fit is None or getattr(codec, "fitted", True):
        return
    fit(_some(data, seed, "fit codec").x1)


def fit_transport(transport: Transport, codec: Codec, data: Data, conditions: Conditions, seed: int) -> None:
    """Fit a source and a coupling that are found on data and have not been fitted yet, on encoded samples."""
    source, coupling = transport.source, transport.coupling
    if source.fitted and coupling.fitted:
        return
    batch = _some(data, seed, "fit transport")
    x1 = encode(codec, batch.x1, generator(seed, "fit transport", "codec"))
    cond = {item.name: batch.cond[item.name] for item in conditions.items}
    draws = generator(seed, "fit transport", "draws")
    if not source.fitted:
        source.fit(x1, cond, draws)
    if not coupling.fitted:
        if batch.x0 is not None:
            x0 = encode(codec, batch.x0, draws)
        else:
            x0 = source.sample(x1.shape, cond, draws, x1=x1, dtype=x1.dtype)
        coupling.fit(x0, x1, cond, draws)


def _some(data: Data, seed: int, purpose: str, most: int = 20_000) -> Batch:
    """Up to `most` training samples, chosen by the seed."""
    index = randperm(data.size("train"), generator(seed, purpose))[:most].sort().values
    return data.batch("train", index)
