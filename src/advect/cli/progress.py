"""Progress on a terminal: a bar with rate and time left; in a file or pipe a line now and then."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from advect.errors import require
from advect.training import Monitor


class Progress(Monitor):
    """Draws one bar per stage on standard error.

    Args:
        every: Seconds between lines where standard error is no terminal.
    """

    def __init__(self, every: float = 10.0) -> None:
        console = require("rich.console", "cli", "progress")
        self.console = console.Console(stderr=True, highlight=False)
        self.every = every
        self._bar: Any = None
        self._task: Any = None
        self._name, self._first, self._steps, self._done = "", 0, 1, 0
        self._began = self._said = self._drawn = 0.0
        self._text = ""

    def start(self, name: str, first: int, steps: int) -> None:
        self.finish()
        self._name, self._first, self._steps, self._done = name, first, steps, first
        self._began = self._said = time.monotonic()
        self._text = ""
        if self.console.is_terminal:
            progress = require("rich.progress", "cli", "progress")
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[rate]}"),
                progress.TimeRemainingColumn(elapsed_when_finished=True),
                progress.TextColumn("{task.fields[text]}"),
                console=self.console,
            )
            self._task = self._bar.add_task(name, total=steps, completed=first, rate="", text="")
            self._bar.start()

    def step(self, done: int) -> None:
        self._done = done
        now = time.monotonic()
        if self._bar is not None:
            if now - self._drawn > 0.1 or done >= self._steps:
                self._drawn = now
                self._bar.update(self._task, completed=done, rate=f"{self._rate(now):.3g}/s", text=self._text)
        elif now - self._said > self.every:
            self._said = now
            self._line(now)

    def log(self, row: dict[str, Any]) -> None:
        self._text = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k in ("loss", "distance") and v is not None)

    def samples(self, step: int, path: Path) -> None:
        self.note(f"samples: {path}")

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, text=self._text)
            self._bar.stop()
            self._bar = None
        elif self._done > self._first:
            self._line(time.monotonic())
        self._first = self._done

    def _rate(self, now: float) -> float:
        return (self._done - self._first) / max(now - self._began, 1e-9)

    def _line(self, now: float) -> None:
        rate = self._rate(now)
        left = (self._steps - self._done) / max(rate, 1e-9)
        sys.stderr.write(
            f"{self._name} {self._done}/{self._steps}  {rate:.3g}/s  {left:.0f} s left  {self._text}".rstrip() + "\n"
        )
        sys.stderr.flush()
