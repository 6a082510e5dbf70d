"""BOSS: the best grid for a number of Euler steps, and straightening on exactly that grid.

Measured on a Gaussian in 64 dimensions whose map is known, on a ring where the criterion misleads, on the exact field
of digits, on flows trained on digits, and on the flow for emoji that ships with advect.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from advect import couplings, interpolants, sources
from advect.data import Digits, Emoji, StoredSegments, Tensors
from advect.distillation import KStep, SegmentRegression
from advect.encoders import SmallClassifier
from advect.fitting import FitBellman, bellman_costs, even_path
from advect.flow import Flow
from advect.metrics import FrechetDistance
from advect.networks import MLP, LoRA
from advect.oracles import Gaussian, GaussianMixture
from advect.randomness import generator, randn
from advect.solvers import Euler, Heun, start_state
from advect.systems.framework import (
    Claim,
    Curves,
    Measured,
    Outcome,
    Pictures,
    Rule,
    Setting,
    System,
    Table,
    images_of,
)
from advect.systems.framework.pictures import (
    all_images,
    all_labels,
    digits_network,
    held_out,
    shipped_flow,
    with_nearest,
)
from advect.times import BellmanGrid, EDMGrid, Grid, TimeGrid
from advect.training import TrainSettings, make_segments, reflow, straighten, train

Field = Callable[..., Tensor]
Row = tuple[str, list[float | None]]
STEPS = (2, 3, 4, 6, 8, 10)
CHOSEN = (4, 6, 8, 10)
FINE = [i / 100 for i in range(101)]
EXACT = "mean |x_K - x(1)|, exact field from N(0, I) to N(0, diag(1/k^2)) in 64 dimensions, 600 starts"
RING = "exact field of a ring of 8 modes (radius 2, standard deviation .15), 4 Euler steps"
FD = "FD[digits classifier], 2000 samples against the held-out digits, no classes given, 6 Euler steps"
OWN = "mean distance to the flow's own end of 100 Euler steps"
PUBLISHED = "CelebA-HQ 34.56 / 18.67, CIFAR-10 4.35 / 4.80 (FID, 6 steps, distill-6 reflow / BOSS): either sign"

# 64 dimensions: mean error of even and of Bellman steps, an independent run of three seeds
REFERENCE = {
    "even": (0.735, 0.57, 0.4715, 0.3585, 0.293, 0.2505),
    "Bellman": (0.715, 0.53, 0.4175, 0.296, 0.2275, 0.1865),
}


def _gain(low: float | None = None, high: float | None = None) -> Rule:
    return Rule("improvement", low=low, high=high)


CLAIMS = (
    *(
        Claim(
            f"grid, 64 dimensions, {k} steps",
            f"{EXACT}, {k} Euler steps",
            "lower",
            _gain(low),
            paper=paper,
            ours_is="Bellman grid, fitted on 100 starts",
            baseline_is="even steps",
        )
        for k, low, paper in (
            (4, 1.08, "CelebA-HQ FID 158.95 to 92.03, CIFAR-10 51.95 to 47.57 at 4 steps"),
            (6, 1.15, "CelebA-HQ FID 127.01 to 72.54, CIFAR-10 25.69 to 23.35 at 6 steps"),
            (8, 1.2, "CelebA-HQ FID 109.42 to 49.80, CIFAR-10 16.82 to 15.74 at 8 steps"),
            (10, 1.25, None),
        )
    ),
    Claim(
        "grid against EDM's, 64 dimensions, 8 steps",
        f"{EXACT}, 8 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="Bellman grid",
        baseline_is="EDM's grid (rho 7, 80 to .002, then the data)",
    ),
    Claim(
        "its own cost, ring",
        f"sum of the squared one-step errors, {RING}",
        "lower",
        _gain(1.05),
        ours_is="Bellman grid",
        baseline_is="even steps",
    ),
    Claim(
        "where it loses: the end, ring",
        f"mean |x_K - x(1)|, {RING}, 600 starts",
        "lower",
        _gain(high=1.0),
        ours_is="Bellman grid: what it lowers are errors of single steps, not the error at the end",
        baseline_is="even steps",
    ),
    Claim(
        "grid, exact field of digits, 6 steps",
        "mean |x_K - x(1)|, 400 digits in [-1, 1] with a kernel of .05, 120 starts, 6 Euler steps",
        "lower",
        _gain(1.04),
        ours_is="Bellman grid",
        baseline_is="even steps",
    ),
    Claim(
        "grid, trained in 64 dimensions, 4 steps",
        f"{OWN}, 4 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="Bellman grid of this network, no training",
        baseline_is="even steps",
    ),
    Claim(
        "straightened, 64 dimensions, 4 steps",
        f"{OWN}, 4 Euler steps",
        "lower",
        _gain(2.0),
        ours_is="straightened on the Bellman grid",
        baseline_is="Bellman grid, no training",
    ),
    Claim(
        "straightened against distill-4 reflow, 64 dimensions",
        f"{OWN}, 4 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="straightened on the Bellman grid",
        baseline_is="distill-4 reflow on the same trajectories, as many iterations, even steps",
    ),
    Claim(
        "bought at this grid: even steps instead",
        f"{OWN}, 4 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="straightened, on its grid",
        baseline_is="the same weights, even steps",
    ),
    Claim(
        "bought at this number: 32 steps instead",
        f"{OWN}, 32 even Euler steps",
        "lower",
        _gain(high=1.0),
        ours_is="straightened for 4 steps",
        baseline_is="the flow before",
    ),
    Claim(
        "grid, digits, 6 steps: the flow's own end",
        f"{OWN}, 500 starts, digits 8x8, 6 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="Bellman grid, no training",
        baseline_is="even steps",
    ),
    Claim(
        "grid, digits, 6 steps: Frechet distance",
        FD,
        "lower",
        _gain(1.0),
        paper="FID at 6 steps: CIFAR-10 25.69 to 23.35, CelebA-HQ 127.01 to 72.54",
        ours_is="Bellman grid, no training",
        baseline_is="even steps",
        cause="the grid lowers errors of single trajectories, here by about 5 % at the end, not a distance of laws",
    ),
    Claim(
        "straightened, digits, 6 steps",
        FD,
        "lower",
        _gain(1.5),
        paper="FID at 6 steps: CIFAR-10 23.35 to 4.80, CelebA-HQ 72.54 to 18.67",
        ours_is="straightened on the Bellman grid",
        baseline_is="Bellman grid, no training",
    ),
    Claim(
        "straightened against distill-6 reflow, digits: the flow's own end",
        f"{OWN}, 500 starts, digits 8x8, 6 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="straightened on the Bellman grid",
        baseline_is="distill-6 reflow on the same trajectories, as many iterations, even steps",
    ),
    Claim(
        "straightened against distill-6 reflow, digits: Frechet distance",
        FD,
        "lower",
        None,
        paper=PUBLISHED,
        ours_is="straightened on the Bellman grid",
        baseline_is="distill-6 reflow on the same trajectories, as many iterations, even steps",
    ),
    Claim(
        "adapters of rank 4, digits",
        f"{OWN}, 500 starts, digits 8x8, 6 Euler steps",
        "lower",
        _gain(1.0),
        paper="CelebA-HQ FID 36.70 with LoRA-4, 33.86 with all weights",
        ours_is="straightened with adapters of rank 4",
        baseline_is="Bellman grid, no training",
    ),
    Claim(
        "grid, emoji, 6 steps",
        f"{OWN}, the flow that ships, 3x32x32, 32 starts over all classes, 6 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="Bellman grid, no training",
        baseline_is="even steps",
    ),
    Claim(
        "grid, emoji, 6 steps: features",
        "mean squared distance of features [emoji classifier] to those of the flow's own end, 32 starts, 6 Euler steps",
        "lower",
        _gain(1.0),
        ours_is="Bellman grid, no training",
        baseline_is="even steps",
    ),
)


def experiment(setting: Setting) -> Outcome:
    """Known maps, a trained network in 64 dimensions, digits, emoji."""
    out = Outcome()
    _known_maps(setting, out)
    _straightened_64(setting, out)
    _digits(setting, out)
    _emoji(setting, out)
    return out


def _known_maps(setting: Setting, out: Outcome) -> None:
    setting.say("fields whose map is known")
    std = 1 / torch.arange(1, 65, dtype=torch.float64)
    field = Gaussian([0.0] * 64, std.square().diag().tolist()).velocity()
    n, x0 = _starts(setting, (64,), 600)
    bellman = _fitted(field, n, 100)
    error = _errors(field, x0, std * x0, bellman, STEPS)
    for k in CHOSEN:
        out.values[f"grid, 64 dimensions, {k} steps"] = Measured(error["Bellman"][k], error["even"][k], calls=k)
    out.values["grid against EDM's, 64 dimensions, 8 steps"] = Measured(error["Bellman"][8], error["EDM"][8], calls=8)
    rows = [_row(name, *(line[k] for k in STEPS)) for name, line in error.items()]
    rows += [_row(f"{name}, reference run", *line) for name, line in REFERENCE.items()]
    for name, grid in (("even", TimeGrid(4)), ("Bellman", bellman)):
        heun = [_distance(Heun()(field, x0, grid.with_steps(k)), std * x0) for k in STEPS]
        rows.append(_row(f"{name}, Heun (twice the calls)", *heun))
    title = "Mean distance to the exact end in 64 dimensions, beside an independent run (three seeds)"
    out.tables.append(Table("known-map", title, ("grid", *(f"K={k}" for k in STEPS)), rows))
    out.curves.append(_curves("known-map", "N(0, I) to N(0, diag(1/k^2))", error))

    lines: list[Row] = []
    angle = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    means = (2 * torch.stack([angle.cos(), angle.sin()], 1)).tolist()
    for width in (0.15, 0.3):
        field = GaussianMixture([1.0] * 8, means, [width**2] * 8).velocity()
        n, x0 = _starts(setting, (2,), 600)
        bellman = _fitted(field, n, 100)
        end = Heun()(field, x0, 400)
        error, even = _errors(field, x0, end, bellman, STEPS), even_path(4, 100)
        lines += [_row(f"width {width}, {name}", *(line[k] for k in STEPS)) for name, line in error.items()]
        if width == 0.15:
            best = bellman.with_steps(4)
            out.values["its own cost, ring"] = Measured(best.value(), best.cost_of(even), calls=4)
            out.values["where it loses: the end, ring"] = Measured(error["Bellman"][4], error["even"][4], calls=4)
    title = "Mean distance to the exact end from a ring of 8 modes: the criterion is local, and may mislead"
    out.tables.append(Table("ring", title, ("grid", *(f"K={k}" for k in STEPS)), lines))

    pictures = all_images(Digits()).double()[: setting.pick(400, 100)]
    count = len(pictures)
    field = GaussianMixture([1.0] * count, pictures.tolist(), [0.05**2] * count).velocity()
    n, x0 = _starts(setting, (1, 8, 8), 120)
    end = Heun()(field, x0, setting.pick(80, 20))
    error = _errors(field, x0, end, _fitted(field, n[: setting.pick(80, 10)], 100), CHOSEN[:3])
    out.values["grid, exact field of digits, 6 steps"] = Measured(error["Bellman"][6], error["even"][6], calls=6)
    rows = [_row(name, *(line[k] for k in CHOSEN[:3])) for name, line in error.items()]
    title = "Mean distance to the exact end under the exact field of 400 digits"
    out.tables.append(Table("exact-digits", title, ("grid", *(f"K={k}" for k in CHOSEN[:3])), rows))


def _straightened_64(setting: Setting, out: Outcome) -> None:
    setting.say("64 dimensions: a trained network, and its straightening")
    data = randn((setting.pick(20_000, 1000), 64), generator(setting.seed, "data")) / torch.arange(1, 65)
    settings = TrainSettings(steps=setting.pick(2000, 60), batch_size=256, lr=1e-3, schedule="cosine", device="cpu")
    flow = train(lambda spec: MLP(spec, hidden=(256, 256, 256)), data, settings=settings, seed=setting.seed)
    grid = FitBellman(4)(flow, seed=setting.seed)
    flows = _shortened(setting, flow, grid, settings.but(lr=3e-4), setting.folder / "64")
    x0 = sources.Gaussian().sample((setting.pick(600, 100), 64), generator=generator(setting.seed, "starts"))
    end = _end(flow, x0)

    def error(name: str, grid: Grid) -> float:
        return _distance(_run(flows[name], x0, grid), end)

    even, best = TimeGrid(4), grid
    alone = {"even": error("before", even), "Bellman": error("before", best), "EDM": error("before", EDMGrid(4))}
    straight, distilled = error("straightened", best), error("distilled, even steps", even)
    out.values |= {
        "grid, trained in 64 dimensions, 4 steps": Measured(alone["Bellman"], alone["even"], calls=4),
        "straightened, 64 dimensions, 4 steps": Measured(straight, alone["Bellman"], calls=4),
        "straightened against distill-4 reflow, 64 dimensions": Measured(straight, distilled, calls=4),
        "bought at this grid: even steps instead": Measured(straight, error("straightened", even), calls=4),
        "bought at this number: 32 steps instead": Measured(
            error("straightened", TimeGrid(32)), error("before", TimeGrid(32)), calls=32
        ),
    }
    own = {"straightened": best, "straightened on even steps": even, "distilled, even steps": even, "reflow": even}
    rows = [_row(f"before, {name}", value) for name, value in alone.items()]
    rows += [_row(name, error(name, one)) for name, one in own.items()]
    title = "A trained network in 64 dimensions: mean distance to its own end of 100 steps, as many iterations each"
    out.tables.append(Table("straightened-64", title, ("4 Euler steps", "distance"), rows))
    out.notes.append(f"64 dimensions: nodes of the trained network's grid {grid.path()} (first seed)")


def _digits(setting: Setting, out: Outcome) -> None:
    setting.say("digits: training, grid, straightening")
    digits, k = Digits(), 6
    data, real = Tensors(all_images(digits)), held_out(digits)
    settings = TrainSettings(steps=setting.pick(5000, 100), batch_size=128, lr=2e-3, schedule="cosine", device="cpu")
    flow = train(digits_network, data, settings=settings, seed=setting.seed)
    grid = FitBellman(k)(flow, seed=setting.seed)
    shorter = settings.but(steps=setting.pick(2000, 60), lr=3e-4)
    flows = _shortened(setting, flow, grid, shorter, setting.folder / "digits", rank=4)
    distance, n = FrechetDistance(SmallClassifier("digits")), setting.pick(2000, 100)
    x0 = sources.Gaussian().sample((n, *flow.shape), generator=generator(setting.seed, "starts"))
    few, end = x0[: setting.pick(500, 50)], _end(flow, x0)

    def measured(name: str, grid: Grid) -> tuple[float, float, Tensor]:
        x = _run(flows[name], x0, grid)
        return _distance(x[: len(few)], end[: len(few)]), distance(x, real, resamples=0).value, x

    found = {
        (name, steps): measured("before", one.with_steps(steps))
        for steps in CHOSEN
        for name, one in (("even", TimeGrid(4)), ("EDM", EDMGrid(4)), ("Bellman", grid))
    }
    own = {
        "straightened": grid,
        "straightened, rank 4": grid,
        "straightened on even steps": TimeGrid(k),
        "distilled, even steps": TimeGrid(k),
        "reflow": TimeGrid(k),
    }
    after = {name: measured(name, one) for name, one in own.items()}
    best, even = found["Bellman", k], found["even", k]
    straight, distilled = after["straightened"], after["distilled, even steps"]
    out.values |= {
        "grid, digits, 6 steps: the flow's own end": Measured(best[0], even[0], calls=k),
        "grid, digits, 6 steps: Frechet distance": Measured(best[1], even[1], calls=k),
        "straightened, digits, 6 steps": Measured(straight[1], best[1], calls=k),
        "straightened against distill-6 reflow, digits: the flow's own end": Measured(
            straight[0], distilled[0], calls=k
        ),
        "straightened against distill-6 reflow, digits: Frechet distance": Measured(straight[1], distilled[1], calls=k),
        "adapters of rank 4, digits": Measured(after["straightened, rank 4"][0], best[0], calls=k),
    }
    columns = ("grid", *(f"{what}, K={steps}" for what in ("own end", "FD") for steps in CHOSEN))
    near = {name: [found[name, steps][0] for steps in CHOSEN] for name in ("even", "EDM", "Bellman")}
    alike = {name: [found[name, steps][1] for steps in CHOSEN] for name in near}
    rows = [_row(name, *near[name], *alike[name]) for name in near]
    title = "Digits, no training: distance to the own end of 100 steps, and FD"
    out.tables.append(Table("digits", title, columns, rows))
    lines = [_row("before, even steps", even[0], even[1]), _row("before, Bellman", best[0], best[1])]
    lines += [_row(name, own_end, fd) for name, (own_end, fd, _) in after.items()]
    lines.append(_row("100 steps", 0.0, distance(end, real, resamples=0).value))
    title = "Digits in 6 Euler steps after training, on the same trajectories and with as many iterations"
    out.tables.append(Table("digits-trained", title, ("flow", "own end", "FD"), lines))
    strips = {"100 steps": images_of(end), "6 even steps": images_of(even[2]), "6 Bellman steps": images_of(best[2])}
    strips |= {"distill-6 reflow": images_of(distilled[2])}
    strips |= with_nearest(straight[2], all_images(digits), "straightened on the Bellman grid")
    out.pictures.append(Pictures("digits", "The same noise", strips))


def _emoji(setting: Setting, out: Outcome) -> None:
    setting.say("emoji: the grid of the flow that ships")
    flow, n = shipped_flow("emoji"), setting.pick(32, 4)
    grid = FitBellman(6, n=setting.pick(24, 2), batch_size=24)(flow, seed=setting.seed)
    x0 = sources.Gaussian().sample((n, *flow.shape), generator=generator(setting.seed, "starts"))
    label = torch.arange(n) % int(all_labels(Emoji()).max() + 1)
    end = flow.sample(n, x0=x0, label=label, solver=Euler(), grid=100)
    steps, features = CHOSEN if not setting.quick else (6,), SmallClassifier("emoji")
    near: dict[str, list[float]] = {"even": [], "EDM": [], "Bellman": []}
    alike: dict[str, list[float]] = {name: [] for name in near}
    shown: dict[str, Tensor] = {}
    with torch.no_grad():
        wanted = features(end)
        for name, one in (("even", TimeGrid(6)), ("EDM", EDMGrid(6)), ("Bellman", grid)):
            for k in steps:
                x = flow.sample(n, x0=x0, label=label, solver=Euler(), grid=one.with_steps(k))
                near[name].append(_distance(x, end))
                alike[name].append(float((features(x) - wanted).square().sum(1).mean()))
                if k == 6:
                    shown[name] = x
    at = steps.index(6)
    for claim, figures in (("grid, emoji, 6 steps", near), ("grid, emoji, 6 steps: features", alike)):
        out.values[claim] = Measured(figures["Bellman"][at], figures["even"][at], calls=6)
    columns = ("grid", *(f"{what}, K={k}" for what in ("own end", "features") for k in steps))
    rows = [_row(name, *near[name], *alike[name]) for name in near]
    out.tables.append(Table("emoji", "Emoji, no training: distances to the own end of 100 steps", columns, rows))
    strips = {"100 steps": images_of(end), "6 even steps": images_of(shown["even"]), "EDM": images_of(shown["EDM"])}
    strips |= with_nearest(shown["Bellman"], all_images(Emoji()), "6 Bellman steps")
    out.pictures.append(Pictures("emoji", "The same noise and class", strips))
    out.notes.append(f"emoji: nodes of the grid of 6 steps {grid.path()} (first seed)")


def _shortened(
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


def _starts(setting: Setting, shape: tuple[int, ...], n: int) -> tuple[Tensor, Tensor]:
    """Starts to fit on, and others to measure on, in float64."""
    draws = (("fit", 100), ("test", setting.pick(n, n // 10)))
    fit, test = (randn((m, *shape), generator(setting.seed, what), dtype=torch.float64) for what, m in draws)
    return fit, test


def _fitted(field: Field, starts: Tensor, fine: int) -> BellmanGrid:
    return BellmanGrid.from_costs(bellman_costs(field, starts, fine), FINE, 4, samples=len(starts))


def _errors(
    field: Field, x0: Tensor, end: Tensor, bellman: BellmanGrid, steps: tuple[int, ...]
) -> dict[str, dict[int, float]]:
    """Mean distance to the end, by grid and number of steps."""
    path = interpolants.Linear()
    out: dict[str, dict[int, float]] = {}
    for name, grid in (("even", TimeGrid(4)), ("EDM", EDMGrid(4)), ("Bellman", bellman)):
        times = {k: grid.with_steps(k).times(path) for k in steps}
        out[name] = {k: _distance(Euler()(field, start_state(x0, t[0], path), t), end) for k, t in times.items()}
    return out


def _run(flow: Flow, x0: Tensor, grid: Grid) -> Tensor:
    """Euler from given starts with the network alone: the grids that a flow would warn of are measured on purpose."""
    path = interpolants.Linear()
    times = grid.times(path)
    with torch.no_grad(), flow.evaluating():
        return Euler()(flow.bind(), start_state(x0, times[0], path), times)


def _end(flow: Flow, x0: Tensor) -> Tensor:
    return _run(flow, x0, TimeGrid(100))


def _row(name: str, *values: float) -> Row:
    return name, list(values)


def _distance(x: Tensor, end: Tensor) -> float:
    return float((x - end).flatten(1).norm(dim=1).mean())


def _curves(name: str, title: str, error: dict[str, dict[int, float]]) -> Curves:
    lines = {grid: ([float(k) for k in line], list(line.values())) for grid, line in error.items()}
    return Curves(name, title, "Euler steps", "mean distance to the exact end", lines, log="xy")


SYSTEM = System(
    slug="boss",
    title="BOSS",
    paper="Nguyen, Nguyen, Nguyen: Bellman Optimal Stepsize Straightening of Flow-Matching Models, ICLR 2024",
    arxiv="2312.16414",
    purpose="The best time grid for a number of Euler steps of any flow, without training, and straightening on it.",
    seats={
        "source": (sources.Gaussian,),
        "coupling": (couplings.Independent, couplings.Paired),
        "interpolant": (interpolants.Linear,),
        "times": (BellmanGrid, EDMGrid),
        "fitting": (FitBellman, bellman_costs),
        "distillation": (SegmentRegression, KStep),
        "data": (StoredSegments,),
        "network": (MLP, LoRA),
        "solver": (Euler, Heun),
        "training": (make_segments, straighten, reflow),
    },
    claims=CLAIMS,
    experiment=experiment,
)
