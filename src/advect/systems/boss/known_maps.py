"""The grid alone, where the exact end is known: 64 dimensions, a ring on which the criterion misleads, and digits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advect.data import Digits
from advect.fitting import bellman_costs, even_path
from advect.oracles import Gaussian, GaussianMixture
from advect.randomness import generator, randn
from advect.solvers import Heun
from advect.systems.boss.ends import CHOSEN, EVEN, distance, errors
from advect.systems.framework import Measured, Outcome, Setting, Table, all_images, compared
from advect.times import BellmanGrid, TimeGrid

STEPS = (2, 3, 4, 6, 8, 10)
FINE = 100
EXACT = "mean |x_K - x(1)|, exact field from N(0, I) to N(0, diag(1/k^2)) in 64 dimensions, 600 starts"
RING = "exact field of a ring of 8 modes (radius 2, standard deviation .15), 4 Euler steps"

# 64 dimensions: mean error of even and of Bellman steps, an independent run of three seeds
REFERENCE = {
    "even": (0.735, 0.57, 0.4715, 0.3585, 0.293, 0.2505),
    "Bellman": (0.715, 0.53, 0.4175, 0.296, 0.2275, 0.1865),
}
PUBLISHED = {
    4: "CelebA-HQ FID 158.95 to 92.03, CIFAR-10 51.95 to 47.57 at 4 steps",
    6: "CelebA-HQ FID 127.01 to 72.54, CIFAR-10 25.69 to 23.35 at 6 steps",
    8: "CelebA-HQ FID 109.42 to 49.80, CIFAR-10 16.82 to 15.74 at 8 steps",
}

CLAIMS = (
    *(
        compared(
            f"grid, 64 dimensions, {k} steps",
            f"{EXACT}, {k} Euler steps",
            "Bellman grid, fitted on 100 starts",
            EVEN,
            low=low,
            paper=PUBLISHED.get(k),
        )
        for k, low in ((4, 1.08), (6, 1.15), (8, 1.2), (10, 1.25))
    ),
    compared(
        "grid against EDM's, 64 dimensions, 8 steps",
        f"{EXACT}, 8 Euler steps",
        "Bellman grid",
        "EDM's grid (rho 7, 80 to .002, then the data)",
        low=1.0,
    ),
    compared("its own cost, ring", f"sum of the squared one-step errors, {RING}", "Bellman grid", EVEN, low=1.05),
    compared(
        "where it loses: the end, ring",
        f"mean |x_K - x(1)|, {RING}, 600 starts",
        "Bellman grid: what it lowers are errors of single steps, not the error at the end",
        EVEN,
        high=1.0,
    ),
    compared(
        "grid, exact field of digits, 6 steps",
        "mean |x_K - x(1)|, 400 digits in [-1, 1] with a kernel of .05, 120 starts, 6 Euler steps",
        "Bellman grid",
        EVEN,
        low=1.04,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """No network: what is left is the error of the steps."""
    setting.say("fields whose map is known")
    _gaussian(setting, out)
    _ring(setting, out)
    _digits(setting, out)


def _gaussian(setting: Setting, out: Outcome) -> None:
    std = 1 / torch.arange(1, 65, dtype=torch.float64)
    field = Gaussian([0.0] * 64, std.square().diag().tolist()).velocity()
    fit, x0 = _starts(setting, (64,), 600)
    bellman = _fitted(field, fit)
    error = errors(field, x0, std * x0, bellman, STEPS)
    out.values |= {f"grid, 64 dimensions, {k} steps": error.against("Bellman", "even", k) for k in CHOSEN}
    out.values["grid against EDM's, 64 dimensions, 8 steps"] = error.against("Bellman", "EDM", 8)
    rows = error.arms | {f"{name}, reference run": list(line) for name, line in REFERENCE.items()}
    for name, grid in (("even", TimeGrid(4)), ("Bellman", bellman)):
        ends = [Heun()(field, x0, grid.with_steps(k)) for k in STEPS]
        rows[f"{name}, Heun (twice the calls)"] = [distance(x, std * x0) for x in ends]
    title = "Mean distance to the exact end in 64 dimensions, beside an independent run (three seeds)"
    out.tables.append(Table.of("known-map", title, ("grid", *(f"K={k}" for k in STEPS)), rows))
    title = "N(0, I) to N(0, diag(1/k^2))"
    out.curves.append(error.curves("known-map", title, "Euler steps", "mean distance to the exact end"))


def _ring(setting: Setting, out: Outcome) -> None:
    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    means = (2 * torch.stack([angle.cos(), angle.sin()], 1)).tolist()
    rows: dict[str, list[float]] = {}
    for width in (0.15, 0.3):
        field = GaussianMixture([1.0] * 8, means, [width**2] * 8).velocity()
        fit, x0 = _starts(setting, (2,), 600)
        bellman = _fitted(field, fit)
        error = errors(field, x0, Heun()(field, x0, 400), bellman, STEPS)
        rows |= {f"width {width}, {name}": line for name, line in error.arms.items()}
        if width == 0.15:
            best = bellman.with_steps(4)
            out.values["its own cost, ring"] = Measured(best.value(), best.cost_of(even_path(4, FINE)), calls=4)
            out.values["where it loses: the end, ring"] = error.against("Bellman", "even", 4)
    title = "Mean distance to the exact end from a ring of 8 modes: the criterion is local, and may mislead"
    out.tables.append(Table.of("ring", title, ("grid", *(f"K={k}" for k in STEPS)), rows))


def _digits(setting: Setting, out: Outcome) -> None:
    pictures = all_images(Digits()).double()[: setting.pick(400, 100)]
    count, steps = len(pictures), CHOSEN[:3]
    field = GaussianMixture([1.0] * count, pictures.tolist(), [0.05**2] * count).velocity()
    fit, x0 = _starts(setting, (1, 8, 8), 120)
    end = Heun()(field, x0, setting.pick(80, 20))
    error = errors(field, x0, end, _fitted(field, fit[: setting.pick(80, 10)]), steps)
    out.values["grid, exact field of digits, 6 steps"] = error.against("Bellman", "even", 6)
    title = "Mean distance to the exact end under the exact field of 400 digits"
    out.tables.append(Table.of("exact-digits", title, ("grid", *(f"K={k}" for k in steps)), error.arms))


def _starts(setting: Setting, shape: tuple[int, ...], n: int) -> tuple[Tensor, Tensor]:
    """Starts to fit on, and others to measure on, in float64."""
    draws = (("fit", 100), ("test", setting.pick(n, n // 10)))
    fit, test = (randn((m, *shape), generator(setting.seed, what), dtype=torch.float64) for what, m in draws)
    return fit, test


def _fitted(field: Callable[..., Tensor], starts: Tensor) -> BellmanGrid:
    times = [i / FINE for i in range(FINE + 1)]
    return BellmanGrid.from_costs(bellman_costs(field, starts, FINE), times, 4, samples=len(starts))
