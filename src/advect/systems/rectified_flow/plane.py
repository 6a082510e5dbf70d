"""A Gaussian to eight Gaussians in the plane: reflow from stored and from fresh pairs, its control, distillation."""

from __future__ import annotations

from advect import sources
from advect.data import EightGaussians
from advect.diagnostics import straightness
from advect.distillation import KStep
from advect.metrics import SlicedW2
from advect.networks import MLP
from advect.randomness import generator
from advect.solvers import RK4, Euler
from advect.systems.framework import Figures, Measured, Outcome, Scatter, Setting, Table, compared, distance_to
from advect.systems.rectified_flow.arms import DISTILLED, OFFLINE, REFLOWED, SHUFFLED, shuffled
from advect.training import ConstantEMA, TrainSettings, make_pairs, reflow, reflow_online, train

PLANE = "sliced W2, N(0, I) to eight Gaussians, 8000 samples"
ONE = f"{PLANE}, one Euler step"
COUNTS = (1, 2, 4, 8, 50)

# sliced W2 at 1, 2, 4, 8, 50 Euler steps, and straightness S, on the plane: one independent run, 6000 steps a stage
REFERENCE: dict[str, tuple[float, ...]] = {
    "1-RF": (2.77, 0.73, 0.28, 0.18, 0.13, 2.93),
    "2-RF": (0.134, 0.130, 0.129, 0.127, 0.128, 0.0013),
    "shuffled pairs": (2.78, 0.74, 0.28, 0.18, 0.14, 2.95),
}

CLAIMS = (
    compared("reflow, one step, plane", ONE, OFFLINE, "1-RF", low=8.0, paper=REFLOWED),
    compared(
        "straightness, plane",
        "S = int E|(z1 - z0) - v(z_t, t)|^2 dt on ODE trajectories, N(0, I) to eight Gaussians",
        OFFLINE,
        "1-RF",
        low=100.0,
    ),
    compared("control: shuffled pairs, plane", ONE, SHUFFLED, "1-RF", high=1.2),
    compared(
        "online reflow, one step, plane",
        ONE,
        "2-RF (pairs drawn for every batch by 20 Euler steps of the averaged teacher)",
        "1-RF",
        low=8.0,
    ),
    compared("distillation, one step, plane", ONE, "1-RF distilled to k=1", "1-RF", low=8.0, paper=DISTILLED),
    compared("distillation, four steps, plane", f"{PLANE}, four Euler steps", "1-RF distilled to k=4", "1-RF", low=1.0),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Distance to the data by Euler steps, and straightness."""
    data, seed = EightGaussians(), setting.seed
    settings = TrainSettings(
        steps=setting.pick(4000, 300), batch_size=512, lr=2e-3, ema=ConstantEMA(0.999), device="cpu"
    )
    setting.say("plane: 1-RF")
    first = train(lambda spec: MLP(spec, hidden=(96, 96, 96)), data, settings=settings, seed=seed)
    setting.say("plane: pairs, reflow, and the shuffled control")
    pairs = make_pairs(
        first,
        setting.pick(40_000, 3000),
        setting.folder / "plane",
        solver=RK4(),
        steps=setting.pick(40, 20),
        seed=seed,
        batch_size=6000,
    )
    again = {"settings": settings, "seed": seed + 1}
    second = reflow(first, pairs, **again)
    control = reflow(first, shuffled(pairs, seed), **again)
    setting.say("plane: online reflow and distillation")
    online = reflow_online(first, data, settings=settings.but(steps=setting.pick(2500, 150)), seed=seed + 1)
    one, four = (reflow(first, pairs, objective=KStep(k), **again) for k in (1, 4))

    n = setting.pick(8000, 2000)
    target = data.draw(n, generator(seed, "target"))
    distance = distance_to(SlicedW2(), target)
    flows = {"1-RF": first, "2-RF": second, "2-RF online": online, "shuffled pairs": control}
    samples = {
        name: [flow.sample(n, seed=seed, solver=Euler(), steps=k, batch_size=n) for k in COUNTS]
        for name, flow in flows.items()
    }
    error = Figures.of(distance, COUNTS, samples)
    distilled = {k: distance(flow.sample(n, seed=seed, batch_size=n)) for k, flow in ((1, one), (4, four))}
    floor = distance(data.draw(n, generator(seed, "floor")))
    x0 = sources.Gaussian().sample((setting.pick(4000, 500), 2), generator=generator(seed, "straightness"))
    bend = {name: float(straightness(flow.network, x0, 60)) for name, flow in flows.items()}
    out.values |= {
        "reflow, one step, plane": error.against("2-RF", "1-RF", 1),
        "straightness, plane": Measured(bend["2-RF"], bend["1-RF"]),
        "control: shuffled pairs, plane": error.against("shuffled pairs", "1-RF", 1),
        "online reflow, one step, plane": error.against("2-RF online", "1-RF", 1),
        "distillation, one step, plane": Measured(distilled[1], error.at("1-RF", 1), calls=1),
        "distillation, four steps, plane": Measured(distilled[4], error.at("1-RF", 4), calls=4),
    }
    rows = {name: [*values, bend[name]] for name, values in error.arms.items()}
    rows["two draws of the data"] = [floor] * len(COUNTS)
    title = "Sliced W2 at N Euler steps and straightness S on the plane, beside an independent run (one seed)"
    out.tables.append(Table.of("plane", title, ("net", *(f"N={k}" for k in COUNTS), "S"), rows, REFERENCE))
    title, levels = "N(0, I) to eight Gaussians", {"two draws of the data": floor}
    out.curves.append(error.curves("plane", title, "Euler steps", "sliced W2", levels=levels))
    clouds = {"data": target, **{f"{name}, one step": each[0] for name, each in samples.items()}}
    out.scatters.append(Scatter.of("plane-samples", "One Euler step", clouds))
    out.notes.append(f"plane: the floor of sliced W2 between two draws of the data is {floor:.3f} (seed 0)")
