r"""Autoregressive transition kernels: transformers that draw the next state token by token.

Tokens of a state that is there are seen wholly or in order; tokens that are being drawn see those before them alone.
What stands at the place before a token is the feature from which the head draws it, so a state's first token is drawn
from the last token of the state before. Sampling keeps keys and values: each token passes the backbone once.

Source: "Transition Matching", arXiv 2506.23589, sections 3.2 and 3.3, algorithms 5 to 8.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.networks.attention import KeyValues, name_layers
from advect.networks.base import NetSpec
from advect.networks.dit import DiTBlock
from advect.networks.embeddings import ConditionEmbedding, Embedding
from advect.networks.heads import AdaLNHead, Head
from advect.networks.kernels import Kernel


class Cache(NamedTuple):
    """What a trajectory has seen: keys and values by layer, and the number of tokens."""

    layers: tuple[KeyValues, ...]
    length: int

    @classmethod
    def empty(cls, depth: int) -> Cache:
        """Nothing seen."""
        return cls(tuple(KeyValues() for _ in range(depth)), 0)


class CausalKernel(Kernel):
    """What the two autoregressive kernels share: tokens with learned places, blocks, and a head.

    Args:
        spec: What it is built for.
        states: States in the sequence, for the places.
        depth: Number of blocks.
        width: Features of a token, a multiple of `heads`.
        heads: Number of heads of attention.
        patch: Side of a token in pixels, or its length in a vector.
        head: How the head is built.
        dropout: Probability of a zero, in training.
        timed: Whether the head is told the time of the state.
    """

    def __init__(
        self,
        spec: NetSpec,
        states: int,
        depth: int,
        width: int,
        heads: int,
        patch: int,
        head: Head,
        dropout: float,
        timed: bool,
    ) -> None:
        super().__init__(spec, patch)
        if depth < 1 or heads < 1 or width % heads:
            raise InputError(f"depth is {depth}, width {width}, heads {heads}: width is a multiple of heads")
        self.embed_tokens = nn.Linear(self.token, width)
        self.places = nn.Parameter(0.02 * torch.randn(self.count, width))
        self.states = nn.Parameter(0.02 * torch.randn(states, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = head.make(self.token, width, timed)
        name_layers(self)

    @property
    def rounds(self) -> int:
        return self.count

    @abstractmethod
    def look(
        self, x: Tensor, t: Tensor, drawn: Tensor | None, carry: Cache | None, **cond: Tensor
    ) -> tuple[Tensor, Cache]:
        """What the head is told about the next token, h (B, 1, D), and what has been seen.

        Args:
            x: The state at time t (B, *spec.shape).
            t: Its time, () or (B,).
            drawn: The token drawn last (B, 1, d); None for the first one of a transition.
            carry: What has been seen; None at the start of the trajectory.
            **cond: Conditions by name.
        """

    def features(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return self.look(x, t, None, None, **cond)[0]

    def embedded(self, tokens: Tensor, state: int, first: int = 0) -> Tensor:
        """Tokens `first`, `first` + 1, ... of a state, with their places."""
        h = self.embed_tokens(tokens.to(self.places.dtype))
        return h + self.places[first : first + tokens.shape[1]] + self.states[state]

    def through(self, h: Tensor, told: Tensor, mask: Tensor | None = None, seen: Cache | None = None) -> Tensor:
        """The blocks on h (B, m, D); the layers of `seen` grow by these tokens."""
        layers: Sequence[KeyValues | None] = [None] * len(self.blocks) if seen is None else seen.layers
        for block, layer in zip(self.blocks, layers, strict=True):
            h = block(h, told, mask, layer)
        return self.norm(h)

    def grown(self, h: Tensor, told: Tensor, carry: Cache) -> tuple[Tensor, Cache]:
        """The feature of the last of new tokens that see all before them, and the cache with them; `carry` stays."""
        layers = tuple(layer.copy() for layer in carry.layers)
        return self.through(h, told, None, Cache(layers, 0))[:, -1:], Cache(layers, carry.length + h.shape[1])


class PrefixKernel(CausalKernel):
    """ARTM's kernel: sees the state x_k wholly and the tokens of x_{k+1} so far; the time enters backbone and head.

    Args:
        spec: What it is built for: a state of shape (channels, height, width) or (d,).
        depth: Number of blocks.
        width: Features of a token, a multiple of `heads`.
        heads: Number of heads of attention.
        patch: Side of a token in pixels, or its length in a vector.
        head: How the head is built.
        dropout: Probability of a zero, in training.

    Source: arXiv 2506.23589 section 3.2 and figure 26 (whose `n_tokens` is the length of a state).
    """

    sees: ClassVar[Literal["state", "prefix", "history"]] = "prefix"

    def __init__(
        self,
        spec: NetSpec,
        depth: int = 6,
        width: int = 192,
        heads: int = 3,
        patch: int = 2,
        head: Head = AdaLNHead(3, 256),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(spec, 2, depth, width, heads, patch, head, dropout, timed=True)
        self.embed = Embedding(spec, width)

    def _told(self, x: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        return nn.functional.silu(self.embed(x, (t,), cond))

    def teach(self, x: Tensor, t: Tensor, following: Tensor, **cond: Tensor) -> Tensor:
        """The features of all tokens of the next state in one pass, h (B, n, D); token i sees x and those before it.

        Args:
            x: The state (B, *spec.shape).
            t: Its time, () or (B,).
            following: The next state (B, *spec.shape).
            **cond: Conditions by name.
        """
        n = self.count
        h = torch.cat([self.embedded(self.tokens(x), 0), self.embedded(self.tokens(following)[:, :-1], 1)], 1)
        place = torch.arange(2 * n - 1, device=h.device)
        mask = (place[None] < n) | (place[None] <= place[:, None])
        return self.through(h, self._told(x, t, cond), mask)[:, n - 1 :]

    def look(
        self, x: Tensor, t: Tensor, drawn: Tensor | None, carry: Cache | None, **cond: Tensor
    ) -> tuple[Tensor, Cache]:
        told = self._told(x, t, cond)
        if drawn is None or carry is None:
            return self.grown(self.embedded(self.tokens(x), 0), told, Cache.empty(len(self.blocks)))
        return self.grown(self.embedded(drawn, 1, carry.length - self.count), told, carry)


class HistoryKernel(CausalKernel):
    """FHTM's kernel: sees all states and tokens so far, each token those before it alone; it is told no time.

    The sequence is x_0, x_1, ..., x_T with `begin` "noise" (x_0 is seen, and not learned), or one learned token
    and then x_1, ..., x_T with `begin` "token", where nothing of x_0 is seen.

    Args:
        spec: What it is built for: a state of shape (channels, height, width) or (d,).
        steps: Transitions T of the chain.
        depth: Number of blocks.
        width: Features of a token, a multiple of `heads`.
        heads: Number of heads of attention.
        patch: Side of a token in pixels, or its length in a vector.
        head: How the head is built.
        begin: With what the sequence begins.
        dropout: Probability of a zero, in training.

    Source: arXiv 2506.23589 section 3.3.
    """

    sees: ClassVar[Literal["state", "prefix", "history"]] = "history"

    def __init__(
        self,
        spec: NetSpec,
        steps: int = 3,
        depth: int = 6,
        width: int = 192,
        heads: int = 3,
        patch: int = 2,
        head: Head = AdaLNHead(3, 256),
        begin: Literal["noise", "token"] = "noise",
        dropout: float = 0.0,
    ) -> None:
        if steps < 1:
            raise InputError(f"steps is {steps}: a chain has at least 1 transition")
        super().__init__(spec, steps + 1, depth, width, heads, patch, head, dropout, timed=False)
        self.steps, self.begin = steps, begin
        self.conditions = ConditionEmbedding(spec.conditions, width)
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, width)) if begin == "token" else None

    def _told(self, x: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        if not (self.spec.conditions or cond):
            return x.new_zeros(x.shape[0], self.places.shape[1], dtype=self.places.dtype)
        return nn.functional.silu(self.conditions(cond, x.shape[0]))

    def teach(self, states: Sequence[Tensor], **cond: Tensor) -> Tensor:
        """The features of all tokens of x_1, ..., x_T in one pass, h (B, T n, D); each token sees those before it.

        Args:
            states: x_0, ..., x_T, each (B, *spec.shape).
            **cond: Conditions by name.
        """
        if len(states) != self.steps + 1:
            raise InputError(
                f"the chain has {len(states) - 1} transitions and the kernel {self.steps}: give HistoryKernel "
                f"steps={len(states) - 1}"
            )
        parts = [self.embedded(self.tokens(x), k) for k, x in enumerate(states)]
        if self.first is not None:
            parts[0] = self.first.expand(len(states[0]), 1, -1)
        h = torch.cat(parts, 1)[:, :-1]
        mask = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool, device=h.device).tril()
        return self.through(h, self._told(states[0], cond), mask)[:, parts[0].shape[1] - 1 :]

    def look(
        self, x: Tensor, t: Tensor, drawn: Tensor | None, carry: Cache | None, **cond: Tensor
    ) -> tuple[Tensor, Cache]:
        told = self._told(x, cond)
        if carry is None:
            return self._begin(x, t, told)
        before = 1 if self.first is not None else self.count
        state, place = divmod(carry.length - before, self.count)
        if state >= self.steps:
            raise InputError(f"the grid has more than the {self.steps} steps that HistoryKernel was built for")
        # the last token of a state is seen when the first one of the next is drawn
        token = self.tokens(x)[:, -1:] if drawn is None else drawn
        return self.grown(self.embedded(token, state + 1, place), told, carry)

    def _begin(self, x: Tensor, t: Tensor, told: Tensor) -> tuple[Tensor, Cache]:
        if not torch.compiler.is_compiling() and t.ndim == 0 and float(t) != 0:  # one host sync a trajectory
            raise InputError(
                f"the chain starts at t={float(t):g}, but HistoryKernel sees all states from t=0 on: start there"
            )
        empty = Cache.empty(len(self.blocks))
        if self.first is not None:
            return self.grown(self.first.expand(x.shape[0], 1, -1), told, empty)
        tokens = self.embedded(self.tokens(x), 0)
        n = tokens.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()
        out = self.through(tokens, told, mask, empty)
        return out[:, -1:], Cache(empty.layers, n)
