"""A trained network in 64 dimensions: what its grid gives, and what more training on that grid buys."""

from __future__ import annotations

from pathlib import Path

import torch

from advect import sources
from advect.data import StoredSegments
from advect.distillation import KStep
from advect.fitting import FitBellman, even_path
from advect.flow import Flow
from advect.networks import MLP
from advect.randomness import generator, randn
from advect.systems.boss.ends import ALONE, EVEN, OWN, STRAIGHT, distance, grids, own_end, run
from advect.systems.framework import Measured, Outcome, Setting, Table, compared
from advect.times import BellmanGrid, Grid, TimeGrid
from advect.training import TrainSettings, make_segments, reflow, straighten, train

OWN_4 = f"{OWN}, 4 Euler steps"

CLAIMS = (
    compared(
        "grid, trained in 64 dimensions, 4 steps", OWN_4, "Bellman grid of this network, no training", EVEN, low=1.0
    ),
    compared("straightened, 64 dimensions, 4 steps", OWN_4, STRAIGHT, ALONE, low=2.0),
    compared(
        "straightened against distill-4 reflow, 64 dimensions",
        OWN_4,
        STRAIGHT,
        "distill-4 reflow on the same trajectories, as many iterations, even steps",
        low=1.0,
    ),
    compared(
        "bought at this grid: even steps instead",
        OWN_4,
        "straightened, on its grid",
        "the same weights, even steps",
        low=1.0,
    ),
    compared(
        "bought at this number: 32 steps instead",
        f"{OWN}, 32 even Euler steps",
        "straightened for 4 steps",
        "the flow before",
        high=1.0,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Four steps before and after, and what four steps cost at other grids."""
    setting.say("64 dimensions: a trained network, and its straightening")
    data = randn((setting.pick(20_000, 1000), 64), generator(setting.seed, "data")) / torch.arange(1, 65)
    settings = TrainSettings(steps=setting.pick(2000, 60), batch_size=256, lr=1e-3, schedule="cosine", device="cpu")
    flow = train(lambda spec: MLP(spec, hidden=(256, 256, 256)), data, settings=settings, seed=setting.seed)
    best, even = FitBellman(4)(flow, seed=setting.seed), TimeGrid(4)
    flows = shortened(setting, flow, best, settings.but(lr=3e-4), setting.folder / "64")
    x0 = sources.Gaussian().sample((setting.pick(600, 100), 64), generator=generator(setting.seed, "starts"))
    end = own_end(flow, x0)

    def error(name: str, grid: Grid) -> float:
        return distance(run(flows[name], x0, grid), end)

    alone = {name: error("before", grids(best)[name]) for name in ("even", "Bellman", "EDM")}
    after = {
        "straightened": error("straightened", best),
        "straightened on even steps": error("straightened on even steps", even),
        "distilled, even steps": error("distilled, even steps", even),
        "reflow": error("reflow", even),
    }
    straight, many = after["straightened"], TimeGrid(32)
    out.values |= {
        "grid, trained in 64 dimensions, 4 steps": Measured(alone["Bellman"], alone["even"], 4),
        "straightened, 64 dimensions, 4 steps": Measured(straight, alone["Bellman"], 4),
        "straightened against distill-4 reflow, 64 dimensions": Measured(straight, after["distilled, even steps"], 4),
        "bought at this grid: even steps instead": Measured(straight, error("straightened", even), 4),
        "bought at this number: 32 steps instead": Measured(error("straightened", many), error("before", many), 32),
    }
    rows = {name: [value] for name, value in ({f"before, {k}": v for k, v in alone.items()} | after).items()}
    title = "A trained network in 64 dimensions: mean distance to its own end of 100 steps, as many iterations each"
    out.tables.append(Table.of("straightened-64", title, ("4 Euler steps", "distance"), rows))
    out.notes.append(f"64 dimensions: nodes of the trained network's grid {best.path()} (first seed)")


def shortened(
    setting: Setting, flow: Flow, grid: BellmanGrid, settings: TrainSettings, folder: Path, rank: int | None = None
) -> dict[str, Flow]:
    """Everything that is trained for the grid's number of steps: the same trajectories, as many iterations."""
    even = even_path(grid.steps, grid.fine)
    n = setting.pick(5000, 200)
    segments = make_segments(flow, grid, n, folder, nodes=even, seed=setting.seed, batch_size=1000)
    whole = StoredSegments(str(folder), (0, grid.fine))
    again = {"settings": settings, "seed": setting.seed + 1}
    flows = {
        "before": flow,
        "straightened": straighten(flow, segments, **again),
        "straightened on even steps": straighten(flow, StoredSegments(str(folder), tuple(even)), **again),
        "distilled, even steps": reflow(flow, whole, objective=KStep(grid.steps), **again),
        "reflow": reflow(flow, whole, **again),
    }
    if rank is not None:
        flows[f"straightened, rank {rank}"] = straighten(flow, segments, rank=rank, **again)
    return flows
