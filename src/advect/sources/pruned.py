r"""A source without the directions that no data face.

    x0 of the source is kept if  max_{a in A} <a, x0> / |x0| <= tau,   A (K, d) unit vectors, the rejected directions

Both the length and the law of what is kept stay those of the source; the network is not touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advect.errors import InputError
from advect.parts import ModulePart
from advect.sources.base import Source
from advect.sources.gaussian import Gaussian
from advect.sources.rejection import first_accepted


def pruned_acceptance(axes: int, tau: float, dimension: int) -> float:
    """Share of Gaussian directions that `axes` orthonormal one-sided axes let through: about Phi(tau sqrt(d))^axes.

    Args:
        axes: K, the number of rejected axes; 0 gives 1.
        tau: Largest cosine that is kept.
        dimension: d, large against K.
    """
    return (0.5 * math.erfc(-tau * math.sqrt(dimension / 2))) ** axes


class PrunedSource(ModulePart, Source):
    r"""Draws of `source` whose cosine with every rejected axis is at most tau.

    For sampling alone: a flow that was trained on `source` is started from a part of it, which is sound for an ODE. The
    law at t=0 is then truncated, so there is no score and no density: solvers that need one refuse this source, and
    likelihoods keep the training source. Over several classes the axes are those of all data pooled.

    Every sample takes the first of its own proposals that passes, so it depends on the seed and its number alone. With
    no axes the draws are those of `source`, number by number. A scale inside `source` does not change the cosine, so a
    norm-aligned source stays aligned. The axes are a buffer, made by
    :class:`~advect.fitting.FitPrunedSource` or :meth:`of`.

    Args:
        source: Who proposes; for a trained flow, its training source. A Gaussian by default.
        tau: Largest cosine that is kept, in (-1, 1).
        tau_data: With which threshold the axes were found on data; a record.
        max_rounds: Proposals per sample after which sampling is given up.
        fitted_on: Hash of the weights it belongs to, if it is bound to some.

    Source: Lee, Kim, Lee, TMLR 2025. The published fitting script writes the accepted axes into the file that the
    sampler reads as the rejected ones; with those (6000 for CIFAR-10) no draw ever passes. Its evaluation leaves out
    the scale of a norm-aligned model, and so starts at twice its noise.
    """

    rejected: Tensor
    acceptance: Tensor

    def __init__(
        self,
        source: Source | None = None,
        tau: float = 0.048,
        tau_data: float | None = None,
        max_rounds: int = 10_000,
        fitted_on: str | None = None,
    ) -> None:
        super().__init__()
        if not -1 < tau < 1:
            raise InputError(f"tau is {tau}: the largest cosine that is kept lies between -1 and 1")
        if max_rounds < 1:
            raise InputError(f"max_rounds is {max_rounds}: at least 1")
        self.source: Source = Gaussian() if source is None else source
        self.tau, self.tau_data, self.max_rounds, self.fitted_on = float(tau), tau_data, max_rounds, fitted_on
        self.register_buffer("rejected", torch.zeros(0, 0))
        self.register_buffer("acceptance", torch.tensor(math.nan))

    @classmethod
    def of(cls, rejected: Tensor, *, acceptance: float = math.nan, **settings: Any) -> PrunedSource:
        """A pruned source with these REJECTED axes (K, d), which are scaled to length 1.

        Args:
            rejected: Directions without data; none (0, d) for a plain source.
            acceptance: Share of draws that pass, where it was measured.
            settings: Arguments of the constructor.

        Raises:
            InputError: If an axis is 0 or not finite.
        """
        length = torch.linalg.vector_norm(rejected.double(), dim=-1, keepdim=True)
        if rejected.ndim != 2 or not bool((torch.isfinite(length) & (length > 0)).all()):
            raise InputError(f"rejected has shape {tuple(rejected.shape)}: give axes (K, d), finite and none of them 0")
        made = cls(**settings)
        made.rejected = (rejected.double() / length).to(rejected.dtype)
        made.acceptance = torch.tensor(float(acceptance))
        return made

    def cosines(self, x0: Tensor) -> Tensor:
        """The largest cosine of each draw (B, *shape) with the rejected axes, shape (B,); -1 where there are none."""
        flat = x0.flatten(1)
        if not len(self.rejected):
            return flat.new_full((len(flat),), -1.0)
        if self.rejected.shape[1] != flat.shape[1]:
            raise InputError(
                f"the rejected axes have {self.rejected.shape[1]} coordinates, but the state has {flat.shape[1]}: "
                "find the axes on the encoded data of this flow"
            )
        length = torch.linalg.vector_norm(flat, dim=1)
        return (flat @ self.rejected.to(flat).T).amax(1) / torch.where(length > 0, length, 1.0)

    def sample(
        self,
        shape: Sequence[int],
        cond: Mapping[str, Tensor] | None = None,
        generator: torch.Generator | None = None,
        *,
        rows: Tensor | None = None,
        x1: Tensor | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw x0 of `shape`.

        Raises:
            InputError: If no proposal passed for a sample: never a draw that breaks the bound.
        """
        if not len(self.rejected):
            return self.source.sample(shape, cond, generator, rows=rows, x1=x1, dtype=dtype, device=device)
        if rows is not None:
            raise InputError("PrunedSource looks at whole samples: ragged rows have no direction to prune")
        if float(self.acceptance) == 0:
            raise self._exhausted("no draw passed when it was measured")

        def propose(index: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
            given, near, n = cond, x1, shape[0]
            if index is not None:
                given = {name: value[index] for name, value in (cond or {}).items()}
                near, n = None if x1 is None else x1[index], len(index)
            x = self.source.sample((n, *shape[1:]), given, generator, x1=near, dtype=dtype, device=device)
            return x, self.cosines(x) <= self.tau

        x0, left = first_accepted(propose, generator, self.max_rounds)
        if left:
            raise self._exhausted(f"{left} of {shape[0]} samples found no draw in {self.max_rounds} rounds")
        return x0

    def _exhausted(self, what: str) -> InputError:
        return InputError(
            f"PrunedSource with tau={self.tau:g} and {len(self.rejected)} rejected axes: {what}; raise tau, or fit it "
            "again with a larger target_accept"
        )

    @property
    def gaussian(self) -> tuple[float, float] | None:
        return None if len(self.rejected) else self.source.gaussian

    @property
    def fitted(self) -> bool:
        return self.source.fitted

    def fit(
        self, x1: Tensor, cond: Mapping[str, Tensor] | None = None, generator: torch.Generator | None = None
    ) -> PrunedSource:
        """Fit the source inside; the axes are found apart from training."""
        self.source.fit(x1, cond, generator)
        return self

    @property
    def needs_x1(self) -> bool:
        return self.source.needs_x1

    def stands_for(self, trained: Source) -> bool:
        """A part of the draws of a source that does, where the velocity was trained too."""
        return super().stands_for(trained) or self.source.stands_for(trained)

    def score(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        return None if len(self.rejected) else self.source.score(x0, cond)

    def log_prob(self, x0: Tensor, cond: Mapping[str, Tensor] | None = None) -> Tensor | None:
        return None if len(self.rejected) else self.source.log_prob(x0, cond)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        """The axes take the file's shape."""
        if (value := state_dict.get(prefix + "rejected")) is not None:
            self.rejected = torch.empty_like(value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
