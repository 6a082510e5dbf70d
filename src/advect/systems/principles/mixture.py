"""Errors and orders of every solver on a mixture whose velocity is known, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advect import Run, interpolants, oracles
from advect.diagnostics import error_against_calls, measured_order
from advect.solvers import (
    AB2,
    DDIM,
    RK4,
    Context,
    DormandPrince,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    Euler,
    Heun,
    Midpoint,
    Solver,
    UniPC,
)
from advect.systems.framework import Curves, Measured, Outcome, Setting, Table, bounded
from advect.systems.principles.rules import SOLVERS
from advect.times import LogSNRGrid, TimeGrid

COUNTS = (5, 10, 20, 40, 80)

# RMS error at 5, 10, 20 uniform steps from t=.05 to .95 on the reference mixture, computed independently (3 digits)
KNOWN: dict[str, tuple[float, float, float]] = {
    "Euler": (0.211, 0.109, 0.0547),
    "DDIM": (0.211, 0.109, 0.0547),
    "AB2": (0.0439, 0.0100, 0.00248),
    "DPM-Solver++ 2M": (0.0743, 0.0226, 0.00665),
    "UniPC-2": (0.118, 0.0285, 0.00570),
    "UniPC-3": (0.235, 0.0681, 0.00477),
    "DPM-Solver++ 3M": (0.215, 0.0706, 0.00765),
    "DPM-Solver++ 3M as published (c=1)": (0.132, 0.0452, 0.00402),
    "Heun": (0.0180, 0.00470, 0.00125),
    "midpoint": (0.0111, 0.00321, 0.000872),
    "DPM-Solver++ 2S": (0.0527, 0.0140, 0.00364),
    "EDM Heun": (0.231, 0.0403, 0.00850),
    "RK4": (9.1e-4, 6.6e-5, 4.5e-6),
}

# the range in which log2 of the error ratio from 80 to 160 steps lies, and the order by theory; third-order multistep
# starts with a 2S step, and is measured on equal steps of log-SNR, where c=2 and c=1 can be told apart
ORDERS: dict[str, tuple[Solver, str, float, float, float]] = {
    "Euler": (Euler(), "t", 1, 0.97, 1.03),
    "DDIM": (DDIM(), "t", 1, 0.97, 1.03),
    "Heun": (Heun(), "t", 2, 1.93, 2.1),
    "midpoint": (Midpoint(), "t", 2, 1.93, 2.1),
    "AB2": (AB2(), "t", 2, 1.93, 2.1),
    "DPM-Solver++ 2S": (DPMpp2S(), "t", 2, 1.93, 2.1),
    "DPM-Solver++ 2M": (DPMpp2M(), "t", 2, 1.93, 2.1),
    "RK4": (RK4(), "t", 4, 3.95, 4.05),
    "UniPC-2": (UniPC(order=2), "t", 3, 2.85, 3.1),
    "UniPC-3": (UniPC(order=3), "t", 4, 3.65, 3.95),
    "DPM-Solver++ 3M": (DPMpp3M(first="2s"), "log-SNR", 3, 2.95, 3.15),
    "DPM-Solver++ 3M as published (c=1)": (DPMpp3M(first="2s", compat=True), "log-SNR", 2, 1.9, 2.05),
}

CLAIMS = (
    bounded(
        "error table",
        "largest relative deviation of 39 RMS errors (13 solvers at 5, 10, 20 steps, reference mixture, float64, "
        "81 starting points) from an independent computation given to 2-3 digits",
        "largest relative deviation",
        high=0.012,
    ),
    *(
        bounded(
            f"order of {name}",
            f"log2 of the error ratio from 80 to 160 steps, equal steps in {grid}, reference mixture",
            "measured order",
            low=low,
            high=high,
            better="higher",
            paper=order,
        )
        for name, (_, grid, order, low, high) in ORDERS.items()
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Errors at several numbers of steps, orders, and what the adaptive solver takes."""
    setting.say("errors and orders on the reference mixture")
    path = interpolants.Linear()
    field, context = oracles.reference_mixture().velocity(path), Context(path)
    side = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    truth = RK4()(field, x, TimeGrid(4000, 0.05, 0.95))
    uniform = TimeGrid(1, 0.05, 0.95)
    even = LogSNRGrid(1, math.log(0.05 / 0.95), math.log(0.95 / 0.05), whole=False)
    runs = {
        name: error_against_calls(solver, field, x, truth, list(COUNTS), uniform, context=context)
        for name, solver in SOLVERS.items()
    }
    deviations = [
        abs(run.error / known - 1)
        for name, line in runs.items()
        for run, known in zip(line[:3], KNOWN[name], strict=True)
    ]
    out.values["error table"] = Measured(max(deviations))
    lines = {name: ([float(r.calls) for r in line], [r.error for r in line]) for name, line in runs.items()}
    title = "Reference mixture, t in [.05, .95], equal steps"
    out.curves.append(Curves("mixture", title, "network calls", "RMS error", lines, log="xy"))
    rows = {name: [line[-1].calls / COUNTS[-1], *(r.error for r in line)] for name, line in runs.items()}
    heads = ("solver", "calls per step", *(f"n={k}" for k in COUNTS))
    out.tables.append(Table.of("mixture", "RMS error on the reference mixture at n steps", heads, rows))
    _adaptive(field, x, truth, out)
    for name, (solver, kind, *_) in ORDERS.items():
        grid = uniform if kind == "t" else even
        pair = error_against_calls(solver, field, x, truth, [80, 160], grid, context=context)
        out.values[f"order of {name}"] = Measured(measured_order(pair))


def _adaptive(field: Callable[..., Tensor], x: Tensor, truth: Tensor, out: Outcome) -> None:
    """The adaptive solver chooses its steps: its error against the tolerance asked for."""
    rows: dict[str, list[float]] = {}
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        run = Run()
        found = DormandPrince(rtol=tolerance, atol=tolerance)(field, x, TimeGrid(1, 0.05, 0.95), run)
        rows[f"{tolerance:.0e}"] = [float(run.nfe), float((found - truth).square().mean().sqrt())]
    title = "Dormand-Prince 5(4) on the same problem: what a tolerance costs and gives"
    out.tables.append(Table.of("adaptive", title, ("tolerance", "calls", "RMS error"), rows))
