"""Runs an experiment for several seeds side by side and writes what they bring home as JSON and plots."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from advect.errors import InputError
from advect.files import read_json, write_json
from advect.saving import versions
from advect.systems.framework.base import Claim, System
from advect.systems.framework.outcome import Measured, Outcome, deviation, mean
from advect.systems.framework.page import write_page
from advect.systems.framework.plots import draw
from advect.systems.framework.registry import get

Say = Callable[[str], None]


def reproduce(
    slug: str,
    scale: str = "cpu",
    seeds: int = 3,
    quick: bool = False,
    out: str | Path | None = None,
    monitor: Say | None = None,
) -> dict[str, Any]:
    """Measure a system's claims on a small real experiment.

    Args:
        slug: Which system.
        scale: "cpu" (minutes on two cores), or "gpu" where the system has such a scale.
        seeds: Number of seeds, run side by side, one process and one thread each.
        quick: One short seed; marked in the result, never to be quoted.
        out: Folder for `<scale>.json`, the plots and `<scale>.html`; nothing is written if None.
        monitor: Takes lines of progress.

    Returns:
        ``{slug, title, paper, seats, quick, claims: [...], tables, notes}``; a claim holds ``name, metric, better,
        paper, baseline, ours, ratio, spread, seeds, holds, scale, seconds, processor_seconds, calls, command, machine,
        versions`` and the `rule` that decided, with the figures `per_seed`. `seconds` of a seed grow with whatever else
        the machine does, its `processor_seconds` hardly. `ours` and `baseline` are means over the seeds, `ratio` is
        the mean of ours/baseline, `spread` the standard deviation of that ratio over the seeds (of ours, where there
        is no baseline), and a claim holds if its rule is satisfied in every seed.

    Raises:
        InputError: If the slug, the scale or the number of seeds cannot be run.
    """
    system = get(slug)
    if scale not in system.scales:
        raise InputError(f"scale is {scale!r}: {slug} runs at {' or '.join(system.scales)}")
    if seeds < 1:
        raise InputError(f"seeds is {seeds}: at least 1")
    if out is not None:  # before the minutes of the experiment, not after
        Path(out).mkdir(parents=True, exist_ok=True)
    count = 1 if quick else seeds
    runs = _run_all(system, scale, count, quick, monitor or (lambda line: None))
    outcomes = [Outcome.from_json(run["outcome"]) for run in runs]
    common = {
        "scale": scale,
        "seconds": round(mean([run["seconds"] for run in runs]), 1),
        "processor_seconds": round(mean([run["processor_seconds"] for run in runs]), 1),
        "command": f"advect reproduce {slug} --scale {scale} " + ("--quick" if quick else f"--seeds {seeds}"),
        "machine": machine(),
        "versions": versions(),
    }
    result: dict[str, Any] = {
        "slug": slug,
        "title": system.title,
        "paper": f"{system.paper}; {system.reference}",
        "seats": system.seat_names(),
        "quick": quick,
        "claims": [_summary(claim, [o.values[claim.name] for o in outcomes], common) for claim in system.claims],
        "tables": [_average([o.tables[i] for o in outcomes]) for i in range(len(outcomes[0].tables))],
        "notes": outcomes[0].notes,
    }
    if out is not None:
        result["plots"] = draw(outcomes, Path(out), scale)
        write_json(Path(out) / f"{scale}.json", result)
        write_page(result, Path(out), scale)
    return result


def _run_all(system: System, scale: str, count: int, quick: bool, say: Say) -> list[dict[str, Any]]:
    """All seeds in processes of their own, up to two per processor at a time (they share it fairly)."""
    lock, started = threading.Lock(), list[subprocess.Popen[str]]()

    def speak(line: str) -> None:
        with lock:
            say(line)

    with tempfile.TemporaryDirectory(prefix="advect-") as folder, ThreadPoolExecutor(2 * _processors()) as pool:
        orders = [
            {"slug": system.slug, "scale": scale, "seed": seed, "quick": quick, "out": f"{folder}/{seed}.json"}
            for seed in range(count)
        ]
        try:
            return list(pool.map(lambda order: _run_one(order, speak, started), orders))
        except BaseException:  # one seed failed, or Ctrl-C: the others are of no use
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.terminate()
            raise


def _run_one(order: dict[str, Any], say: Say, started: list[subprocess.Popen[str]]) -> dict[str, Any]:
    command = [sys.executable, "-m", "advect.systems.framework.worker", json.dumps(order)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            say(f"seed {order['seed']}: {line.rstrip()}")
        process.wait()
        errors.seek(0)
        trace = errors.read()
    if process.returncode == 2 and Path(order["out"]).exists():
        raise InputError(read_json(order["out"])["error"])
    if process.returncode:
        raise RuntimeError(f"seed {order['seed']} of {order['slug']} stopped with code {process.returncode}:\n{trace}")
    return read_json(order["out"])


def _summary(claim: Claim, measured: list[Measured], common: dict[str, Any]) -> dict[str, Any]:
    ratios = [m.ratio for m in measured if m.ratio is not None]
    baselines = [m.baseline for m in measured if m.baseline is not None]
    ours = [m.ours for m in measured]
    holds = None if claim.rule is None else all(claim.rule(m, claim.better) for m in measured)
    return {
        "name": claim.name,
        "metric": claim.metric,
        "better": claim.better,
        "paper": claim.paper,
        "baseline": mean(baselines) if baselines else None,
        "ours": mean(ours),
        "ratio": mean(ratios) if ratios else None,
        "spread": deviation(ratios if ratios else ours),
        "seeds": len(measured),
        "holds": holds,
        "cause": (claim.cause or "not known") if holds is False else None,
        "rule": None if claim.rule is None else str(claim.rule),
        "ours_is": claim.ours_is,
        "baseline_is": claim.baseline_is,
        "calls": measured[0].calls,
        "per_seed": {"ours": ours, "baseline": baselines or None},
        **common,
    }


def _average(tables: list[Any]) -> dict[str, Any]:
    rows = []
    for i, (name, _) in enumerate(tables[0].rows):
        columns = zip(*(table.rows[i][1] for table in tables), strict=True)
        rows.append([name, *(None if any(v is None for v in values) else mean(values) for values in columns)])
    return {"name": tables[0].name, "title": tables[0].title, "columns": list(tables[0].columns), "rows": rows}


def _processors() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def machine() -> str:
    """Processor, system and number of processors, in words."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"{_processors()} x {name}, {platform.system()}"
