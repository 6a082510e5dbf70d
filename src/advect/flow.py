"""The artefact: trained networks with the transport they were trained on, ready to sample, encode and save."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advect.codecs import Codec, Identity
from advect.conditions import Conditions
from advect.errors import InputError
from advect.fields import Run
from advect.randomness import generator as seeded
from advect.sampler import Sampler
from advect.solvers import Context
from advect.transport import Transport


class Flow(nn.Module):
    """Networks by role, and everything that sampling needs.

    Args:
        network: The model: a network of advect (it knows its shape) or any callable ``f(x, t, **cond)``.
        transport: Source, coupling, interpolant it was trained with.
        codec: Between data and state.
        conditions: The conditions it is told.
        sampler: The default way to sample.
        shape: Shape of one state; read from ``network.spec`` if there is one.
        others: Further networks by role.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        transport: Transport | None = None,
        codec: Codec | None = None,
        conditions: Conditions | None = None,
        sampler: Sampler | None = None,
        shape: tuple[int, ...] | None = None,
        others: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.others = nn.ModuleDict(dict(others or {}))
        self.transport = Transport() if transport is None else transport
        self.codec: Codec = Identity() if codec is None else codec
        self.conditions = Conditions() if conditions is None else conditions
        self.sampler = Sampler() if sampler is None else sampler
        spec = getattr(network, "spec", None)
        if shape is None and spec is None:
            raise InputError("shape is not given and the network has no `spec`: pass shape=(2,) or the like")
        self.shape: tuple[int, ...] = tuple(shape if shape is not None else spec.shape)  # pyright: ignore

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weight = next(self.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        run: Run | None = None,
        **options: Any,
    ) -> Tensor:
        """Draw n samples in data units (replaced below by the full version)."""
        sampler_names = ("solver", "grid", "source", "guidance", "steps")
        sampler = self.sampler.but(**{k: options.pop(k, None) for k in sampler_names})
        if generator is None:
            generator = seeded(seed, "sample") if seed is not None else None
        run = Run(generator) if run is None else run
        source = sampler.source or self.transport.source
        x0 = source.sample((n, *self.shape), options, generator, device=self.device)
        context = Context(self.transport.interpolant, source, score_refusal=self.transport.score_refusal)
        from advect.fields import bind

        x = sampler.solver(bind(self.network, run, **options), x0, sampler.grid, run, context=context)
        return self.codec.decode(x)
