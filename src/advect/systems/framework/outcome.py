"""What one seed of an experiment brings home: figures, curves, tables and pictures, all as plain values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from advect.report.pictures import as_bytes


@dataclass(frozen=True)
class Measured:
    """One figure of one seed.

    Args:
        ours: The figure.
        baseline: The baseline's figure of the same run, if there is one.
        calls: Network calls per sample that "ours" took, if that means something.
    """

    ours: float
    baseline: float | None = None
    calls: int | None = None

    @property
    def ratio(self) -> float | None:
        """ours / baseline."""
        return None if self.baseline is None or self.baseline == 0 else self.ours / self.baseline

    def improvement(self, better: str) -> float | None:
        """How many times better than the baseline."""
        ratio = self.ratio
        if ratio is None or better == "higher":
            return ratio
        return math.inf if ratio == 0 else 1 / ratio


@dataclass(frozen=True)
class Curves:
    """A plot: y against x for several lines, drawn as mean and range over the seeds.

    Args:
        name: File name without its ending.
        title: The title.
        x: Name of the x axis.
        y: Name of the y axis.
        lines: By label: the x and the y values.
        log: Which axes are logarithmic.
    """

    name: str
    title: str
    x: str
    y: str
    lines: dict[str, tuple[list[float], list[float]]]
    log: Literal["", "x", "y", "xy"] = ""


@dataclass(frozen=True)
class Table:
    """A table whose numbers are averaged over the seeds.

    Args:
        name: Its name.
        title: The title.
        columns: Heads, the first one for the row names.
        rows: Row name and one number (or None) per further column.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, list[float | None]]]

    @classmethod
    def of(
        cls,
        name: str,
        title: str,
        columns: tuple[str, ...],
        rows: Mapping[str, Sequence[float | None]],
        beside: Mapping[str, Sequence[float | None]] | None = None,
        beside_is: str = "reference run",
    ) -> Table:
        """A table of rows by name.

        Args:
            name: Its name.
            title: The title.
            columns: Heads, the first one for the row names.
            rows: Numbers by row name; a short row ends in empty cells.
            beside: Numbers from elsewhere by the same names, each shown below its row.
            beside_is: What they are, in words.
        """
        found: list[tuple[str, list[float | None]]] = []
        for label, values in rows.items():
            found.append((label, list(values)))
            if beside and label in beside:
                found.append((f"{label}, {beside_is}", list(beside[label])))
        width = len(columns) - 1
        return cls(name, title, columns, [(label, [*row, *[None] * (width - len(row))]) for label, row in found])


@dataclass(frozen=True)
class Scatter:
    """Planar points by label, shown side by side (first seed only)."""

    name: str
    title: str
    points: dict[str, list[list[float]]]

    @classmethod
    def of(cls, name: str, title: str, clouds: Mapping[str, Tensor]) -> Scatter:
        """The first points, (N, 2) each, by label."""
        return cls(name, title, {label: points_of(x) for label, x in clouds.items()})


@dataclass(frozen=True)
class Pictures:
    """Grids of images by label, shown below each other (first seed only): values 0..255, (n, h, w) or (n, h, w, 3)."""

    name: str
    title: str
    images: dict[str, list[Any]]

    @classmethod
    def of(cls, name: str, title: str, rows: Mapping[str, Tensor | list[Any]]) -> Pictures:
        """The first images in [-1, 1], (N, C, H, W) each, by label; rows that are lists of 0..255 stay as they are."""
        images = {label: images_of(x) if isinstance(x, Tensor) else x for label, x in rows.items()}
        return cls(name, title, images)


@dataclass
class Outcome:
    """Everything one seed brings home."""

    values: dict[str, Measured] = field(default_factory=dict)
    curves: list[Curves] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    scatters: list[Scatter] = field(default_factory=list)
    pictures: list[Pictures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Outcome:
        """The inverse of :meth:`to_json`."""
        return cls(
            values={name: Measured(**value) for name, value in plain["values"].items()},
            curves=[Curves(**value) for value in plain["curves"]],
            tables=[Table(**value) for value in plain["tables"]],
            scatters=[Scatter(**value) for value in plain["scatters"]],
            pictures=[Pictures(**value) for value in plain["pictures"]],
            notes=list(plain["notes"]),
        )


def points_of(x: Tensor, n: int = 2000) -> list[list[float]]:
    """The first n planar points as lists."""
    return x[:n].double().cpu().round(decimals=3).tolist()


def images_of(x: Tensor, n: int = 20) -> list[Any]:
    """The first n images in [-1, 1], (B, C, H, W), as 0..255 lists; one channel is squeezed."""
    pixels = as_bytes(x[:n])
    return (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).tolist()


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None for a single value."""
    if len(values) < 2:
        return None
    centre = mean(values)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (len(values) - 1))
