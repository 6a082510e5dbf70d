"""The log of a run: one JSON row per line, each step once; TensorBoard and Weights & Biases beside it."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from advect.errors import InputError, require
from advect.files import write_atomically

CLOCK = ("time", "steps_per_second")
"""Fields that say when and how fast, and so differ between two runs with the same numbers."""


def read_log(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of a log; a last line that was cut short is left out."""
    rows = []
    if Path(path).exists():
        for line in Path(path).read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


class Log:
    """Rows to ``log.jsonl``, and to what else was asked for.

    Args:
        folder: The run's folder.
        step: Rows after this step are of a run that was cut off, and are dropped.
        tensorboard: Whether to write TensorBoard files; None if it is installed.
        wandb: Project of Weights & Biases, or None.
        config: What Weights & Biases keeps as the run's config.
    """

    def __init__(
        self, folder: Path, step: int, *, tensorboard: bool | None, wandb: str | None, config: dict[str, Any]
    ) -> None:
        self.path = folder / "log.jsonl"
        rows = read_log(self.path)
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))
        self._file = open(self.path, "a")  # noqa: SIM115 (closed by close)
        self._board = None
        if tensorboard or (tensorboard is None and importlib.util.find_spec("tensorboard") is not None):
            writer = require("torch.utils.tensorboard", "tensorboard", "logging to TensorBoard")
            self._board = writer.SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self._wandb = None
        if wandb is not None:
            library = require("wandb", "wandb", "logging to Weights & Biases")
            self._wandb = library.init(project=wandb, name=folder.name, dir=str(folder), config=config, resume="allow")

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; it has the key "step"."""
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(f"{self.path} could not be written ({error.strerror}): free space") from error
        numbers = {name: value for name, value in flatten(row).items() if name not in ("step", "time")}
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, row["step"])
        if self._wandb is not None:
            self._wandb.log(numbers, step=row["step"])

    def flush(self) -> None:
        """Bring the rows to the disk, before a checkpoint says that they are there."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close all files."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def flatten(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a row by name; those of a list get its name and their place."""
    out: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, (int, float)):
            out[name] = float(value)
        elif isinstance(value, list):
            out |= {f"{name}/{place}": float(v) for place, v in enumerate(value) if v is not None}
    return out
