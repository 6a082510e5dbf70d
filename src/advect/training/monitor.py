"""Who watches a training: the command line draws progress bars with it, a notebook a plot; nothing prints below."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Monitor:
    """Told what happens; every method may be left as it is, which does nothing."""

    def start(self, name: str, first: int, steps: int) -> None:
        """A stage begins (or resumes) at step `first` of `steps`."""

    def step(self, done: int) -> None:
        """`done` steps are done; called after every step, so it must be quick and must not read the device."""

    def log(self, row: dict[str, Any]) -> None:
        """A row was written to the log."""

    def samples(self, step: int, path: Path) -> None:
        """A picture (or array) of samples was written."""

    def note(self, text: str) -> None:
        """Something worth a line: a checkpoint, a resume."""

    def finish(self) -> None:
        """The stage is over, well or not."""
