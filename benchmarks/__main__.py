"""Run all benchmarks (or those named), store their figures, and write benchmarks/README.md from them."""

from __future__ import annotations

import importlib
import sys

from benchmarks import common
from benchmarks.readme import write_readme

TABLES = ("loss", "coupling", "weights", "sampling", "divergence", "imports", "mean_flow")


def main() -> None:
    """Each table lives in `bench_<name>.py` and has `run() -> list[Row]`."""
    for name in sys.argv[1:] or TABLES:
        rows = importlib.import_module(f"benchmarks.bench_{name}").run()
        common.show(rows)
        common.store(name, rows)
    write_readme()


if __name__ == "__main__":
    main()
