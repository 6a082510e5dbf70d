"""The seat of whatever runs a model to find numbers: grids, pruned axes, calibration tables, guidance scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from advect.batch import Batch
from advect.flow import Flow
from advect.parts import Part


class Fit(Part, ABC):
    """A search for a part: ``fit(flow, data, seed=0) -> part``.

    A part that was found by running the networks says so in `fitted_on`, the hash of their weights: on other weights
    it is refused. ``advect calibrate FLOW --fit NAME`` runs one and keeps the part beside the flow.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What the part is called among `Flow.fitted`, and its folder."""

    @property
    def needs_flow(self) -> bool:
        """Whether it runs a flow; one that looks at data alone does not."""
        return True

    @property
    def needs_data(self) -> bool:
        """Whether it looks at data."""
        return False

    @abstractmethod
    def __call__(
        self,
        flow: Flow | None,
        data: Batch | None = None,
        *,
        seed: int = 0,
        cond: Mapping[str, Any] | None = None,
    ) -> Part:
        """Find the part.

        Args:
            flow: The flow, with the default sampler that it is fitted for (its guidance counts). None if there is none.
            data: Samples in data units with their conditions, where it needs them.
            seed: Same seed, same numbers.
            cond: Conditions of what it draws, as :meth:`~advect.flow.Flow.sample` takes them; what is not given is as
                the fit says: classes in turn or drawn, those of the data, or null.
        """

    @abstractmethod
    def summary(self, part: Part) -> list[str]:
        """What was found, in lines to print."""
