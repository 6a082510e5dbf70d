"""Time that `import x` takes over `import torch`, in fresh processes, and the third-party packages it loads.

The ratio is (torch + x) / torch; the goal for advect is 0.03 s over torch and nothing but torch and numpy. Rooms are
imported when first used: `advect.flow` is what the first use of `advect.Flow` costs on top.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.common import Row

NAMES = (
    "advect",
    "advect.flow",
    "flow_matching.path",
    "flow_matching.solver",
    "torchcfm",
    "torchdiffeq",
    "zuko",
    "diffusers",
)
CODE = "import time, torch, numpy, sys; k = set(sys.modules); a = time.process_time(); import {name}; print(time.process_time() - a, len({{m.split('.')[0] for m in set(sys.modules) - k}}))"  # noqa: E501


def run() -> list[Row]:
    """Median of seven fresh processes each."""
    base = statistics.median(_seconds("json")[0] for _ in range(3))
    torch_alone = statistics.median(
        float(
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "import time; a = time.process_time(); import torch; print(time.process_time() - a)",
                ],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(7)
    )
    rows = []
    for name in NAMES:
        runs = [_seconds(name) for _ in range(7)]
        extra = sorted(max(0.0, seconds - base) for seconds, _ in runs)
        middle = statistics.median(extra)
        ratio = 1 + middle / torch_alone
        rows.append(
            Row(
                table="imports",
                case=f"{runs[0][1]} new top-level modules",
                candidate=name,
                ratio=round(ratio, 3),
                low=round(1 + extra[1] / torch_alone, 3),
                high=round(1 + extra[-2] / torch_alone, 3),
                milliseconds=round(1e3 * middle, 2),
                peak_mib=0.0,
                goal=round(1 + 0.03 / torch_alone, 3) if name == "advect" else None,
                per="import",
            )
        )
    return rows


def _seconds(name: str) -> tuple[float, int]:
    out = subprocess.run(
        [sys.executable, "-c", CODE.format(name=name)], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(out[0]), int(out[1])
