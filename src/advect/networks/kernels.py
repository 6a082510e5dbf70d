r"""Transition kernels: a backbone that is called once for a state, and a light head that draws what comes next.

``features(x, t, **cond) -> h (B, n, D)`` and ``head(y, s, t, h) -> u``, the inner velocity of tokens y (B, n, d) at
inner time s. The kernels here draw all tokens together, each one independently of the others given h; those of
:mod:`advect.networks.causal` draw one after the other.

Source: "Transition Matching", arXiv 2506.23589, sections 3.1 and 4.1.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.networks.base import NetSpec, Network
from advect.networks.dit import DiT
from advect.networks.heads import AdaLNHead, Head, PlainHead
from advect.networks.mlp import MLP
from advect.networks.patches import from_tokens, to_tokens, token_count


class Kernel(Network):
    """A network of one stochastic transition; :class:`~advect.solvers.ChainSolver` runs it.

    Attributes:
        sees: What the kernel is told: the "state", the state and the tokens drawn so far ("prefix"), or all states and
            tokens so far ("history").
        head: The module ``head(y, s, t, h) -> u``.
        patch: Side of a token in pixels, or its length in a vector.
    """

    sees: ClassVar[Literal["state", "prefix", "history"]] = "state"
    head: nn.Module

    def __init__(self, spec: NetSpec, patch: int) -> None:
        if spec.times != 1:
            raise InputError("the kernel was asked to be a flow map: a transition kernel is told one time, that of x")
        super().__init__(spec)
        self.patch = patch
        self.count, self.token = token_count(spec.shape, patch)

    @property
    def rounds(self) -> int:
        """Backbone calls of one transition: each draws as many tokens together."""
        return 1

    @abstractmethod
    def features(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        """What the head is told, h (B, tokens of the first round, D).

        Args:
            x: The state (B, *spec.shape).
            t: Its time, () or (B,).
            **cond: Conditions by name, batch first. One that is not given is null for all.
        """

    def tokens(self, x: Tensor) -> Tensor:
        """The state (B, *shape) as tokens (B, n, d)."""
        if x.shape[1:] != self.spec.shape:
            raise InputError(
                f"x has shape {tuple(x.shape)}, but this {type(self).__name__} was built for (B, *{self.spec.shape})"
            )
        return to_tokens(x, self.patch)

    def untokens(self, tokens: Tensor) -> Tensor:
        """The inverse of :meth:`tokens`."""
        return from_tokens(tokens, self.spec.shape, self.patch)

    def forward(self, x: Tensor, *times: Tensor, features: tuple[str, ...] = (), **cond: Tensor) -> Any:
        """Refuse: a kernel is no field."""
        raise InputError(
            f"{type(self).__name__} is a transition kernel and has no velocity of its own: sample it with ChainSolver, "
            "train it with DTM, ARTM or FHTM"
        )


class BackboneKernel(Kernel):
    """A field's network as backbone: its features in place of its output, and a head on them.

    Features per token come from the network's tokens (B, n, D), or its pixels (B, C, H, W), patch by patch; one vector
    for all (B, D) goes through a linear layer of its own for each token. Weights of the backbone that only serve its
    own output are not trained.

    Args:
        backbone: The network.
        head: How the head is built.
        patch: Side of a token in pixels, or its length in a vector; None is the whole state in one token.
        feature: Which of the network's features; None for the last.
        frozen: Whether the backbone stays as it is, without gradient and dropout.
        width: Features of each of several tokens where the network gives one vector for all.
    """

    def __init__(
        self, backbone: Network, head: Head, patch: int | None, feature: str | None, frozen: bool, width: int
    ) -> None:
        spec = backbone.spec
        if patch is None and len(spec.shape) == 3 and spec.shape[1] != spec.shape[2]:
            raise InputError("patch is None, which is the whole state, and it is not square: give the side of a token")
        super().__init__(spec, spec.shape[-1] if patch is None else patch)
        names = backbone.feature_names
        if not names:
            raise InputError(f"{type(backbone).__name__} has no features for a head: take an MLP, UNet or DiT")
        self.feature = names[-1] if feature is None else feature
        backbone._check_features((self.feature,))
        self.frozen = frozen
        shape, reached = _rehearse(backbone, self.feature)
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(not frozen and name in reached)
        self.backbone = backbone
        self.spread: nn.Module | None = None
        if len(shape) == 1:  # one vector for all tokens
            wide = shape[0] if self.count == 1 else width
            self.spread = None if self.count == 1 else nn.Linear(shape[0], self.count * wide)
        else:
            wide = self._check_layout(shape)
        self.norm = nn.LayerNorm(wide) if len(shape) > 1 else None
        self.head = head.make(self.token, wide, timed=True)

    def _check_layout(self, shape: tuple[int, ...]) -> int:
        """Features per token, of tokens or pixels of this shape."""
        if len(shape) == 2 and shape[0] == self.count:
            return shape[1]
        if len(shape) == 3 and shape[1] * shape[2] % self.count == 0:
            side = round((shape[1] * shape[2] / self.count) ** 0.5)
            if side**2 * self.count == shape[1] * shape[2] and shape[1] % side == 0:
                return shape[0] * side**2
        raise InputError(
            f"feature is {self.feature!r}, of shape {shape}, which does not split among {self.count} tokens of patch "
            f"{self.patch}: give another patch or feature"
        )

    def features(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            taken: Tensor = self.backbone(x, t, features=(self.feature,), **cond)[1][self.feature]
        if taken.ndim == 2:
            h = taken if self.spread is None else self.spread(taken)
            return h.reshape(x.shape[0], self.count, -1)
        if taken.ndim == 4:
            taken = to_tokens(taken, round((taken.shape[2] * taken.shape[3] / self.count) ** 0.5))
        assert self.norm is not None
        return self.norm(taken.to(self.norm.weight.dtype))

    def from_field(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a trained field become the backbone's; the head begins anew."""
        if any(name.startswith("backbone.") for name in state):
            return dict(state)
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}
        return own | {f"backbone.{name}": value for name, value in self.backbone.from_field(state).items()}

    def train(self, mode: bool = True) -> BackboneKernel:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class FieldKernel(BackboneKernel):
    """A copy of a trained field's network as backbone, frozen or as a warm start, under a new head.

    Args:
        network: The network, such as ``flow.network``; it is copied.
        head: How the head is built.
        patch: Side of a token in pixels, or its length in a vector; None is the whole state in one token.
        feature: Which of the network's features; None for the last.
        frozen: Whether the backbone stays as it is.
        width: Features of each of several tokens where the network gives one vector for all.
    """

    def __init__(
        self,
        network: Network,
        head: Head = AdaLNHead(3, 256),
        patch: int | None = None,
        feature: str | None = None,
        frozen: bool = True,
        width: int = 64,
    ) -> None:
        super().__init__(copy.deepcopy(network), head, patch, feature, frozen, width)


class MLPKernel(BackboneKernel):
    """A perceptron as backbone, for vectors and other small states.

    Args:
        spec: What it is built for.
        hidden: Widths of the hidden layers; the last one is what the head is told.
        frequencies: Number of harmonics of the time.
        residual: Whether every hidden layer after the first is a residual one, for which the widths are equal.
        head: How the head is built.
        patch: Side of a token in pixels, or its length in a vector; None draws the whole state as one token, jointly.
        frozen: Whether the backbone stays as it is, for weights of a trained MLP (``start_from``).
        width: Features of each of several tokens.
        embedding: Width of the embedding of the conditions.
    """

    def __init__(
        self,
        spec: NetSpec,
        hidden: tuple[int, ...] = (64, 64),
        frequencies: int = 4,
        residual: bool = False,
        head: Head = PlainHead(),
        patch: int | None = None,
        frozen: bool = False,
        width: int = 64,
        embedding: int = 32,
    ) -> None:
        backbone = MLP(spec, hidden=hidden, frequencies=frequencies, residual=residual, embedding=embedding)
        super().__init__(backbone, head, patch, None, frozen, width)


class DiTKernel(BackboneKernel):
    """A diffusion transformer as backbone; its patches are the tokens.

    Args:
        spec: What it is built for: a state of shape (channels, height, width).
        size: Size of the :class:`~advect.networks.DiT`.
        patch: Side of a patch in pixels.
        depth: Number of blocks, instead of that of `size`.
        width: Features of a token, instead of that of `size`.
        heads: Number of heads, instead of that of `size`.
        head: How the head is built.
        dropout: Probability of a zero, in training.
        frozen: Whether the backbone stays as it is, for weights of a trained DiT (``start_from``).
        checkpointing: Compute the inner activations of blocks again in the backward pass.
    """

    def __init__(
        self,
        spec: NetSpec,
        size: Literal["XXS", "XS", "S", "B", "L", "XL"] = "S",
        patch: int = 2,
        depth: int | None = None,
        width: int | None = None,
        heads: int | None = None,
        head: Head = AdaLNHead(),
        dropout: float = 0.0,
        frozen: bool = False,
        checkpointing: bool = False,
    ) -> None:
        backbone = DiT(spec, size, patch, depth, width, heads, dropout, checkpointing)
        super().__init__(backbone, head, patch, None, frozen, 0)


class _Probe(nn.Module):
    """Calls a network and differentiates a feature in one call, so that checkpointed blocks see the same tensors."""

    def __init__(self, network: Network, feature: str) -> None:
        super().__init__()
        self.network, self.feature = network, feature

    def forward(self, x: Tensor, t: Tensor, wanted: list[Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        taken: Tensor = self.network(x, t, features=(self.feature,))[1][self.feature]
        return taken, torch.autograd.grad(taken.sum(), wanted, allow_unused=True)


def _rehearse(network: Network, feature: str) -> tuple[tuple[int, ...], set[str]]:
    """Shape of a feature without batch, and the parameters it depends on: a call without numbers."""
    tensors = {
        f"network.{name}": torch.empty_like(value, device="meta").requires_grad_(value.is_floating_point())
        for name, value in [*network.named_parameters(), *network.named_buffers()]
    }
    names = [name for name, _ in network.named_parameters()]
    x = torch.empty(1, *network.spec.shape, device="meta", dtype=network.dtype)
    t = torch.empty(1, device="meta", dtype=network.dtype)
    wanted = [tensors[f"network.{name}"] for name in names]
    with torch.enable_grad():
        taken, gradients = torch.func.functional_call(_Probe(network, feature), tensors, (x, t, wanted))
    return tuple(taken.shape[1:]), {name for name, g in zip(names, gradients, strict=True) if g is not None}
