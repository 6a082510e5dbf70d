"""Loss, gradient norm and loss per time bin of every step, kept on the device until a row of the log is written."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from advect.training.module import Outcome


class Meter:
    """One row per step since the last reading.

    Args:
        rows: Most steps between two readings.
        bins: Bins of t in [0, 1].
        device: Where losses are.
    """

    def __init__(self, rows: int, bins: int, device: torch.device) -> None:
        self.bins, self.used = bins, 0
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._scalars = torch.zeros(rows, 2, dtype=dtype, device=device)
        self._table = torch.zeros(rows, bins, 2, dtype=dtype, device=device)
        self._logs: dict[str, Tensor] = {}

    def add(self, outcome: Outcome, share: float) -> None:
        """Add a shard of the step under way, which is `share` of the batch."""
        row = self.used
        self._scalars[row, 0].add_(outcome.loss.detach(), alpha=share)
        if outcome.t is not None:
            place = outcome.t.detach().mul(self.bins).long().clamp_(0, self.bins - 1)
            values = torch.ones(len(place), 2, dtype=self._table.dtype, device=place.device)
            values[:, 0] = outcome.per_sample
            self._table[row].index_add_(0, place, values)
        for name, value in outcome.logs.items():
            if name not in self._logs:
                self._logs[name] = torch.zeros((), dtype=self._table.dtype, device=value.device)
            self._logs[name].add_(value.mean(), alpha=share)

    def close_step(self, norm: Tensor | None) -> None:
        """End the step under way with its gradient norm."""
        if norm is not None:
            self._scalars[self.used, 1].copy_(norm)
        self.used += 1

    def tensors(self) -> dict[str, Tensor]:
        """What is held, to be kept in a checkpoint and given to :meth:`restore`."""
        held = {"scalars": self._scalars[: self.used], "table": self._table[: self.used]}
        return held | {f"logs.{name}": value for name, value in self._logs.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Hold what :meth:`tensors` gave."""
        self.used = len(tensors["scalars"])
        self._scalars[: self.used] = tensors["scalars"].to(self._scalars)
        self._table[: self.used] = tensors["table"].to(self._table)
        self._logs = {
            name.removeprefix("logs."): value.to(self._table)
            for name, value in tensors.items()
            if name.startswith("logs.")
        }

    def clear(self) -> None:
        """Start anew after a reading."""
        self._scalars.zero_()
        self._table.zero_()
        self._logs, self.used = {}, 0


def first_bad(held: dict[str, Tensor]) -> tuple[int, list[int]] | None:
    """The first row (from 0) that is not finite, and its time bins that are not; None if all is well."""
    bad = ~held["scalars"].isfinite().all(1)
    if not bool(bad.any()):
        return None
    row = int(bad.int().argmax())
    return row, (~held["table"][row, :, 0].isfinite()).nonzero().flatten().tolist()


def summary(held: dict[str, Tensor]) -> dict[str, Any]:
    """Means over the rows for the log; a time bin without samples is None."""
    total, count = held["table"].sum(0).unbind(-1)
    loss, norm = held["scalars"].mean(0).tolist()
    per_bin = [None if math.isnan(v) else v for v in (total / count).tolist()]
    logs = {name.removeprefix("logs."): value for name, value in held.items() if name.startswith("logs.")}
    means = {name: float(value) / len(held["scalars"]) for name, value in logs.items()}
    if "weight_variance" in means:  # the effective sample size (sum w)^2 / sum w^2, as a share of the samples
        second = means["weight_mean"] ** 2
        means["weight_ess"] = second / (second + means["weight_variance"]) if second else math.nan
    return {"loss": loss, "grad_norm": norm, "loss_per_bin": per_bin} | means
