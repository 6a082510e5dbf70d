"""A transport: who is at t=0, who goes with whom, which way they go; and whether it has a score."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.batch import Batch
from advect.couplings import Coupling, Independent, Paired, Pairs
from advect.errors import InputError
from advect.interpolants import Interpolant, Linear
from advect.parts import ModulePart
from advect.sources import Gaussian, Source


class Transport(ModulePart):
    """Source, coupling and interpolant together.

    Args:
        source: Who is at t=0.
        coupling: Who goes with whom; data that bring their own x0 use :class:`~advect.couplings.Paired`.
        interpolant: Which way they go.
        inherited_refusal: Why an earlier transport (a reflow teacher's) has no score, if it has none.
        only_grid: The times of the only grid on which the network was trained, if there is just one: on another, or
            under another solver than Euler, a Flow warns.
    """

    def __init__(
        self,
        source: Source | None = None,
        coupling: Coupling | None = None,
        interpolant: Interpolant | None = None,
        inherited_refusal: str | None = None,
        only_grid: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.source: Source = Gaussian() if source is None else source
        self.coupling: Coupling = Independent() if coupling is None else coupling
        self.interpolant: Interpolant = Linear() if interpolant is None else interpolant
        self.inherited_refusal = inherited_refusal
        self.only_grid = only_grid

    def pair(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Draw x0 where the batch has none, pair it with x1, and let labels and conditions follow."""
        x0 = batch.x0
        if isinstance(self.coupling, Paired):
            if x0 is None:
                raise InputError("the coupling is Paired, but the data bring no x0: store pairs, or draw a source")
            return batch
        if x0 is None:
            x1 = batch.x1
            x0 = self.source.sample(
                x1.shape, batch.cond, generator, rows=batch.rows, x1=x1, dtype=x1.dtype, device=x1.device
            )
        pairs = self.coupling(x0, batch.x1, batch.cond, batch.rows, generator)
        return batch.replace(x0=x0) if pairs is None else _follow(batch, x0, pairs)

    @property
    def score_refusal(self) -> str | None:
        """None if the velocity gives a score; else the sentence that says why it does not."""
        if self.inherited_refusal is not None:
            return self.inherited_refusal
        variable = self.interpolant.gaussian_variable
        if variable == "z":
            return None
        if variable is None:
            return f"the path {type(self.interpolant).__name__} has no Gaussian variable, so it has no score"
        if not self.coupling.independent:
            return f"the coupling {type(self.coupling).__name__} ties x0 to x1, so the velocity gives no score"
        if self.source.gaussian is None:
            return f"the source {type(self.source).__name__} is not Gaussian, so the velocity gives no score"
        return None


def _follow(batch: Batch, x0: Tensor, pairs: Pairs) -> Batch:
    out = batch if pairs.i1 is None else batch.select(pairs.i1)
    changes: dict[str, object] = {"x0": x0 if pairs.i0 is None else x0[pairs.i0]}
    if pairs.i0 is not None:  # what belongs to x0 goes with it
        moved = {name: value[pairs.i0] for name, value in batch.extras.items() if name.startswith("x0_")}
        if moved:
            changes["extras"] = out.extras | moved
    if pairs.log_weight is not None:
        weight = pairs.log_weight.exp()
        changes["weight"] = weight if out.weight is None else out.weight * weight
    return out.replace(**changes)
