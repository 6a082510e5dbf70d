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
        self._moments: dict[str, Tensor] = {}
        self._waiting: list[tuple[str, int, float, Tensor]] = []

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
            if value.ndim:
                self._waiting.append((name, row, share, value))
                continue
            if name not in self._logs:
                self._logs[name] = torch.zeros((), dtype=self._table.dtype, device=value.device)
            self._logs[name].add_(value, alpha=share)

    def close_step(self, norm: Tensor | None) -> None:
        """End the step under way with its gradient norm."""
        if norm is not None:
            self._scalars[self.used, 1].copy_(norm)
        self.used += 1

    def tensors(self) -> dict[str, Tensor]:
        """What is held, to be kept in a checkpoint and given to :meth:`restore`."""
        self._take_moments()
        held = {"scalars": self._scalars[: self.used], "table": self._table[: self.used]}
        held |= {f"moments.{name}": value[: self.used] for name, value in self._moments.items()}
        return held | {f"logs.{name}": value for name, value in self._logs.items()}

    def _take_moments(self) -> None:
        """Mean and mean square of what was logged per sample: of many steps at once, so that a step costs nothing."""
        alike: dict[tuple[str, int], list[tuple[int, float, Tensor]]] = {}
        for name, row, share, value in self._waiting:
            alike.setdefault((name, value.numel()), []).append((row, share, value.flatten()))
        for (name, _), entries in alike.items():
            rows, shares, values = zip(*entries, strict=True)
            x = torch.stack(values).to(self._table.dtype)
            moments = torch.stack([x.mean(1), x.square().mean(1)], 1) * x.new_tensor(shares)[:, None]
            if name not in self._moments:
                self._moments[name] = self._scalars.new_zeros(self._scalars.shape)
            self._moments[name].index_add_(0, torch.tensor(rows, device=x.device), moments)
        self._waiting = []

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
        self._moments, self._waiting = {}, []
        for name, value in tensors.items():
            if name.startswith("moments."):
                whole = self._moments[name.removeprefix("moments.")] = torch.zeros_like(self._scalars)
                whole[: self.used] = value.to(whole)

    def clear(self) -> None:
        """Start anew after a reading."""
        self._scalars.zero_()
        self._table.zero_()
        self._logs, self._moments, self._waiting, self.used = {}, {}, [], 0


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
    for name, value in held.items():
        if name.startswith("moments."):
            means |= _spread(name.removeprefix("moments."), *value.mean(0).tolist())
    return {"loss": loss, "grad_norm": norm, "loss_per_bin": per_bin} | means


def _spread(name: str, mean: float, square: float) -> dict[str, float]:
    """Mean and variance of what was logged per sample; of weights also the effective share (sum w)^2 / (n sum w^2)."""
    square = max(square, mean**2)  # of equal numbers it may fall below by a rounding
    out = {f"{name}_mean": mean, f"{name}_variance": square - mean**2}
    return out | {f"{name}_ess": mean**2 / square if square else math.nan} if name == "weight" else out
