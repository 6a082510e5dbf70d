"""One seed of one experiment in a process of its own: `python -m advect.systems.framework.worker` (for the runner)."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from advect.errors import InputError, MissingExtra
from advect.files import write_json
from advect.systems.framework.base import Setting
from advect.systems.framework.registry import get


def main(arguments: list[str]) -> int:
    """Run the setting given as JSON, write the outcome as JSON, and say on stdout what is being done."""
    order = json.loads(arguments[0])
    torch.set_num_threads(1)
    start = time.perf_counter()

    def say(line: str) -> None:
        print(line, flush=True)  # stdout is the pipe to the runner

    with tempfile.TemporaryDirectory(prefix="advect-") as folder:
        setting = Setting(order["scale"], order["seed"], order["quick"], Path(folder), say)
        try:
            outcome = get(order["slug"]).experiment(setting)
        except (InputError, MissingExtra) as error:
            write_json(order["out"], {"error": str(error)})
            return 2
    seconds = time.perf_counter() - start
    busy = time.process_time()
    say(f"done in {seconds:.0f} s ({busy:.0f} s of processor time)")
    write_json(order["out"], {"seconds": seconds, "processor_seconds": busy, "outcome": outcome.to_json()})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
