r"""Transition matching: a kernel's head is regressed on the inner velocity of what a transition draws.

With y what the process says is drawn given a state, cut into tokens, every token gets its own inner time s and its own
noise: y_s = (1 - s) y_0 + s y with s ~ U(0, 1), y_0 ~ N(0, I), and

    L = E |g(y_s, s, t, h) - (y - y_0)|^2,     h = f(x, t),

the mean over tokens and their numbers. The three objectives differ in what the backbone f sees.

Source: "Transition Matching", arXiv 2506.23589, sections 2 and 3, algorithms 3, 5 and 7.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from advect.batch import Batch
from advect.broadcasting import expand_time
from advect.errors import InputError
from advect.fields import kind_of
from advect.interpolants import ChainProcess, IndependentChain, as_chain
from advect.objectives.base import Loss, Networks, Objective
from advect.randomness import rand, randint, randn_like
from advect.times import TimeDensity, Uniform
from advect.transport import Transport


class Drawn(NamedTuple):
    """Features h (B, m, D), tokens y (B, m, d) to be drawn from them, and the times t (B,) of the states."""

    h: Tensor
    y: Tensor
    t: Tensor


class InnerMatching(Objective):
    """What the three objectives share: the inner flow matching of tokens."""

    needs: ClassVar[dict[str, str]] = {"model": "kernel"}
    sees: ClassVar[str]
    kernels: ClassVar[str]

    def refusal(self, transport: Transport) -> str | None:
        try:
            chain = as_chain(transport.interpolant)
            self.check_chain(chain)
        except InputError as error:
            return str(error)
        if isinstance(chain, IndependentChain) and transport.source.gaussian != (0.0, 1.0):
            return (
                f"the chain is IndependentChain, whose noise is N(0, I), but the source is {transport.source}: take "
                "Gaussian(), or LinearChain"
            )
        return None

    @abstractmethod
    def check_chain(self, chain: ChainProcess) -> None:
        """Refuse a process on which this objective has nothing to regress."""

    @abstractmethod
    def drawn(
        self, model: Any, chain: ChainProcess, x0: Tensor, batch: Batch, generator: torch.Generator | None
    ) -> Drawn:
        """What the kernel sees, and what it is to draw."""

    def loss(self, nets: Networks, batch: Batch, generator: torch.Generator | None) -> Loss:
        model: Any = nets.model
        assert batch.x0 is not None
        if kind_of(model) != "kernel" or getattr(model, "sees", "state") != self.sees:
            raise InputError(
                f"{type(self).__name__} trains a kernel that sees the {self.sees}, and the network is "
                f"{type(model).__name__}: take {self.kernels}"
            )
        chain = as_chain(nets.transport.interpolant)
        self.check_chain(chain)
        h, y, t = self.drawn(model, chain, batch.x0, batch, generator)
        # one s per token; a kernel that does not cut its state has one token
        s = rand(y.shape[:2] if hasattr(model, "tokens") else y.shape[:1], generator, dtype=y.dtype, device=y.device)
        y0 = randn_like(y, generator)
        u = model.head(torch.lerp(y0, y, expand_time(s, y)), s, t, h)
        return Loss(u, y - y0, weight=batch.weight, t=t)


class DTM(InnerMatching):
    """Difference transition matching: y = x1 - x0 given the state x_t, all tokens together.

    Args:
        times: Density of the times of the states; those of the chain, if it has fixed ones, stand in its place.

    Source: arXiv 2506.23589 section 3.1, algorithm 3, figure 25; there t is one of k/T, here any time by default, so
    that one kernel serves all grids.
    """

    sees = "state"
    kernels = "MLPKernel, DiTKernel or FieldKernel"

    def __init__(self, times: TimeDensity | None = None) -> None:
        super().__init__()
        self.times: TimeDensity = Uniform() if times is None else times

    def check_chain(self, chain: ChainProcess) -> None:
        if chain.draws != "difference":
            raise InputError(
                f"DTM draws the difference x1 - x0, and {type(chain).__name__} the next state: take LinearChain()"
            )

    def drawn(
        self, model: Any, chain: ChainProcess, x0: Tensor, batch: Batch, generator: torch.Generator | None
    ) -> Drawn:
        x1 = batch.x1
        if chain.times is None:
            t = self.times.sample(x1.shape[0], generator, dtype=x1.dtype, device=x1.device)
        else:
            t = _any_of(chain.times[:-1], x1, generator)[0]
        x, y = chain.pair(x0, x1, t, generator=generator)
        cut = getattr(model, "tokens", None)
        y = y if cut is None else cut(y)
        return Drawn(model.features(x, t, **batch.cond), y, t)


class ARTM(InnerMatching):
    """Autoregressive transition matching: the next state token by token, given the state and the tokens so far.

    Source: arXiv 2506.23589 section 3.2, algorithm 5, figure 26.
    """

    sees = "prefix"
    kernels = "PrefixKernel"

    def check_chain(self, chain: ChainProcess) -> None:
        _needs_next(chain, type(self).__name__)

    def drawn(
        self, model: Any, chain: ChainProcess, x0: Tensor, batch: Batch, generator: torch.Generator | None
    ) -> Drawn:
        assert chain.times is not None
        r, k = _any_of(chain.times[:-1], batch.x1, generator)
        t = r.new_tensor(chain.times[1:])[k]
        x, y = chain.pair(x0, batch.x1, r, t, generator)
        return Drawn(model.teach(x, r, y, **batch.cond), model.tokens(y), r)


class FHTM(InnerMatching):
    """Full-history transition matching: all states in one causal sequence, every token of it learned in one pass.

    Source: arXiv 2506.23589 section 3.3, algorithm 7, figure 27.
    """

    sees = "history"
    kernels = "HistoryKernel"

    def check_chain(self, chain: ChainProcess) -> None:
        _needs_next(chain, type(self).__name__)

    def drawn(
        self, model: Any, chain: ChainProcess, x0: Tensor, batch: Batch, generator: torch.Generator | None
    ) -> Drawn:
        assert chain.times is not None
        states = chain.states(x0, batch.x1, chain.times, generator)
        y = torch.cat([model.tokens(x) for x in states[1:]], 1)
        return Drawn(model.teach(states, **batch.cond), y, batch.x1.new_zeros(len(batch)))


def _needs_next(chain: ChainProcess, name: str) -> None:
    if chain.draws != "next" or chain.times is None:
        raise InputError(
            f"{name} draws the next state, and {type(chain).__name__} the difference: take IndependentChain()"
        )


def _any_of(times: tuple[float, ...], x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """One of the times per sample (B,), and its number."""
    k = randint(len(times), (x.shape[0],), generator, device=x.device)
    return torch.tensor(times, dtype=x.dtype, device=x.device)[k], k
