"""Timing as ratios: one thread, processor time, candidates interleaved, the median of the ratios of each round."""

from __future__ import annotations

import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True)
class Row:
    """One line of a table: `ratio` is to the reference of the same rounds, with its quartiles."""

    table: str
    case: str
    candidate: str
    ratio: float
    low: float
    high: float
    milliseconds: float
    peak_mib: float
    goal: float | None = None
    per: str = "call"


def measure(
    table: str,
    case: str,
    candidates: dict[str, Callable[[], Any]],
    *,
    reference: str,
    goals: dict[str, float] | None = None,
    units: dict[str, float] | None = None,
    per: str = "call",
    rounds: int = 40,
    seconds_per_round: float = 0.02,
) -> list[Row]:
    """Time candidates against `reference`.

    Args:
        table: Name of the table.
        case: What is timed (shapes, settings).
        candidates: Functions without arguments; each call is one unit of work.
        reference: The candidate that counts as 1.
        goals: Largest ratio that counts as reached, by candidate.
        units: Work done by one call of each candidate (network calls, evaluations); times are divided by it.
        per: What a unit is called.
        rounds: Rounds; in each all candidates run in a new order.
        seconds_per_round: Least processor time spent on the slowest candidate in a round.
    """
    torch.set_num_threads(1)
    units = units or {}
    single: dict[str, float] = {}
    for name, work in candidates.items():
        for _ in range(3):
            work()
        start = time.process_time()
        work()
        single[name] = max(time.process_time() - start, 1e-6)
    repeats = {name: max(1, round(seconds_per_round / cost)) for name, cost in single.items()}
    order = list(candidates)
    times: dict[str, list[float]] = {name: [] for name in order}
    shuffle = random.Random(0)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            work, n = candidates[name], repeats[name]
            start = time.process_time()
            for _ in range(n):
                work()
            times[name].append((time.process_time() - start) / n / units.get(name, 1.0))
    rows = []
    for name in candidates:
        ratios = sorted(a / b for a, b in zip(times[name], times[reference], strict=True))
        quartiles = statistics.quantiles(ratios, n=4)
        rows.append(
            Row(
                table=table,
                case=case,
                candidate=name,
                ratio=round(statistics.median(ratios), 3),
                low=round(quartiles[0], 3),
                high=round(quartiles[2], 3),
                milliseconds=round(1e3 * statistics.median(times[name]), 5),
                peak_mib=round(peak_memory(candidates[name]) / 2**20, 3),
                goal=(goals or {}).get(name),
                per=per,
            )
        )
    return rows


def peak_memory(work: Callable[[], Any]) -> int:
    """Most bytes of tensors alive at once during `work`, beyond those alive before, from the allocator's events."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    alive = peak = 0
    for event in profile.profiler.kineto_results.events():  # pyright: ignore
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def machine() -> dict[str, str]:
    """Where the figures come from."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = next((ln.split(":")[1].strip() for ln in info.read_text().splitlines() if "model name" in ln), name)
    return {"processor": name, "python": platform.python_version(), "torch": torch.__version__, "threads": "1"}


def store(table: str, rows: list[Row]) -> None:
    """Replace a table in results.json."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept.setdefault("tables", {})[table] = [asdict(row) for row in rows]
    kept["machine"] = machine()
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def show(rows: list[Row]) -> None:
    """Print rows as a table."""
    for row in rows:
        goal = "" if row.goal is None else f"  goal {row.goal:g} {'reached' if row.ratio <= row.goal else 'MISSED'}"
        print(
            f"{row.case:42s} {row.candidate:28s} {row.ratio:7.3f} [{row.low:.3f}, {row.high:.3f}]"
            f" {row.milliseconds:9.4f} ms/{row.per} {row.peak_mib:9.3f} MiB{goal}",
            flush=True,
        )
