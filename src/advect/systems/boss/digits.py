"""A flow trained on digits: the grid, straightening with all weights and with adapters, and distillation."""

from __future__ import annotations

from torch import Tensor

from advect import sources
from advect.data import Digits, Tensors
from advect.fitting import FitBellman
from advect.randomness import generator
from advect.systems.boss.ends import ALONE, CHOSEN, EVEN, OWN, STRAIGHT, distance, grids, own_end, run
from advect.systems.boss.trained import shortened
from advect.systems.framework import (
    Figures,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    compared,
    digits_network,
    judged_digits,
    with_nearest,
)
from advect.times import TimeGrid
from advect.training import TrainSettings, train

FD = "FD[digits classifier], 2000 samples against the held-out digits, no classes given, 6 Euler steps"
OWN_6 = f"{OWN}, 500 starts, digits 8x8, 6 Euler steps"
DISTILLED = "distill-6 reflow on the same trajectories, as many iterations, even steps"

CLAIMS = (
    compared("grid, digits, 6 steps: the flow's own end", OWN_6, ALONE, EVEN, low=1.0),
    compared(
        "grid, digits, 6 steps: Frechet distance",
        FD,
        ALONE,
        EVEN,
        low=1.0,
        paper="FID at 6 steps: CIFAR-10 25.69 to 23.35, CelebA-HQ 127.01 to 72.54",
        cause="the grid lowers errors of single trajectories, here by about 5 % at the end, not a distance of laws",
    ),
    compared(
        "straightened, digits, 6 steps",
        FD,
        STRAIGHT,
        ALONE,
        low=1.5,
        paper="FID at 6 steps: CIFAR-10 23.35 to 4.80, CelebA-HQ 72.54 to 18.67",
    ),
    compared("straightened against distill-6 reflow, digits: the flow's own end", OWN_6, STRAIGHT, DISTILLED, low=1.0),
    compared(
        "straightened against distill-6 reflow, digits: Frechet distance",
        FD,
        STRAIGHT,
        DISTILLED,
        paper="CelebA-HQ 34.56 / 18.67, CIFAR-10 4.35 / 4.80 (FID, 6 steps, distill-6 reflow / BOSS): either sign",
    ),
    compared(
        "adapters of rank 4, digits",
        OWN_6,
        "straightened with adapters of rank 4",
        ALONE,
        low=1.0,
        paper="CelebA-HQ FID 36.70 with LoRA-4, 33.86 with all weights",
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """The grid at several numbers of steps, then everything that training gives at six."""
    setting.say("digits: training, grid, straightening")
    digits, k = Digits(), 6
    images = all_images(digits)
    settings = TrainSettings(steps=setting.pick(5000, 100), batch_size=128, lr=2e-3, schedule="cosine", device="cpu")
    flow = train(digits_network, Tensors(images), settings=settings, seed=setting.seed)
    grid, even = FitBellman(k)(flow, seed=setting.seed), TimeGrid(k)
    shorter = settings.but(steps=setting.pick(2000, 60), lr=3e-4)
    flows = shortened(setting, flow, grid, shorter, setting.folder / "digits", rank=4)
    x0 = sources.Gaussian().sample((setting.pick(2000, 100), *flow.shape), generator=generator(setting.seed, "starts"))
    few, end, fd = setting.pick(500, 50), own_end(flow, x0), judged_digits(digits)

    def near(x: Tensor) -> float:
        return distance(x[:few], end[:few])

    alone = {name: [run(flow, x0, one.with_steps(steps)) for steps in CHOSEN] for name, one in grids(grid).items()}
    own, law = (Figures.of(figure, CHOSEN, alone) for figure in (near, fd))
    columns = ("grid", *(f"{what}, K={steps}" for what in ("own end", "FD") for steps in CHOSEN))
    title = "Digits, no training: distance to the own end of 100 steps, and FD"
    out.tables.append(Table.of("digits", title, columns, {name: own.arms[name] + law.arms[name] for name in alone}))

    ends = {"before, even steps": run(flow, x0, even), "before, Bellman": run(flow, x0, grid)}
    ends |= {name: run(flows[name], x0, grid) for name in ("straightened", "straightened, rank 4")}
    ends |= {
        name: run(flows[name], x0, even) for name in ("straightened on even steps", "distilled, even steps", "reflow")
    }
    ends["100 steps"] = end
    own, law = (Figures.of(figure, [k], {name: [x] for name, x in ends.items()}) for figure in (near, fd))
    grid_alone, straightened = ("before, Bellman", "before, even steps"), ("straightened", "distilled, even steps")
    out.values |= {
        "grid, digits, 6 steps: the flow's own end": own.against(*grid_alone, k),
        "grid, digits, 6 steps: Frechet distance": law.against(*grid_alone, k),
        "straightened, digits, 6 steps": law.against("straightened", "before, Bellman", k),
        "straightened against distill-6 reflow, digits: the flow's own end": own.against(*straightened, k),
        "straightened against distill-6 reflow, digits: Frechet distance": law.against(*straightened, k),
        "adapters of rank 4, digits": own.against("straightened, rank 4", "before, Bellman", k),
    }
    title = "Digits in 6 Euler steps after training, on the same trajectories and with as many iterations"
    rows = {name: own.arms[name] + law.arms[name] for name in ends}
    out.tables.append(Table.of("digits-trained", title, ("flow", "own end", "FD"), rows))
    strips = {"100 steps": end, "6 even steps": ends["before, even steps"], "6 Bellman steps": ends["before, Bellman"]}
    strips["distill-6 reflow"] = ends["distilled, even steps"]
    near_by = with_nearest(ends["straightened"], images, "straightened on the Bellman grid")
    out.pictures.append(Pictures.of("digits", "The same noise", {**strips, **near_by}))
