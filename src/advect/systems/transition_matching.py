"""Transition matching: a chain of few stochastic transitions, each drawn by a light head on one backbone call.

Measured on eight Gaussians in the plane and on handwritten digits against flow matching, at equal backbone calls and at
equal calls of backbone and head together; with token-by-token kernels on the digits as 16 tokens of 2x2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from advect import guidance, interpolants, networks, oracles
from advect.data import Digits, EightGaussians, Tensors
from advect.encoders import SmallClassifier
from advect.flow import Flow
from advect.interpolants import IndependentChain, LinearChain
from advect.metrics import FrechetDistance, energy_distance
from advect.networks import MLP, FieldKernel, HistoryKernel, MLPKernel, NetSpec, PlainHead, PrefixKernel
from advect.objectives import ARTM, DTM, FHTM, Networks, Objective
from advect.randomness import generator, randn
from advect.solvers import ChainSolver, Euler, Heun
from advect.systems.framework import Claim, Curves, Measured, Outcome, Pictures, Rule, Scatter, Setting, System, Table
from advect.systems.framework.outcome import images_of, points_of
from advect.systems.framework.pictures import all_images, held_out, with_nearest
from advect.times import TimeGrid
from advect.training import TrainSettings, train
from advect.transport import Transport

ED = "unbiased energy distance to eight Gaussians (radius 2, standard deviation .12), 4000 samples"
FD = "FD[digits classifier], 1000 samples against the held-out digits"
COUNTS = (1, 2, 4, 8, 32)
RATES = (1e-3, 2e-3)
FM = "flow matching, the better of Euler and Heun"

CLAIMS = (
    Claim(
        "plane, 1 backbone call",
        f"{ED}; 16 inner Euler steps",
        "lower",
        Rule("improvement", low=15.0),
        paper="GenEval at 16 to 32 backbone calls: .54, flow matching at 256: .47",
        ours_is="DTM, joint head",
        baseline_is=f"{FM}, at 1 call",
    ),
    Claim(
        "plane, 2 backbone calls",
        f"{ED}; 16 inner Euler steps",
        "lower",
        Rule("improvement", low=12.0),
        ours_is="DTM, joint head",
        baseline_is=f"{FM}, at 2 calls",
    ),
    Claim(
        "plane, 4 backbone calls",
        f"{ED}; 16 inner Euler steps",
        "lower",
        Rule("improvement", low=1.5),
        ours_is="DTM, joint head",
        baseline_is=f"{FM}, at 4 calls",
    ),
    Claim(
        "plane, 1 backbone call against flow matching with 4",
        f"{ED}; 16 inner Euler steps",
        "lower",
        Rule("improvement", high=1.0),
        ours_is="DTM, joint head, 1 backbone and 16 head calls: worse than flow matching at several times its calls",
        baseline_is=f"{FM}, at 4 calls",
    ),
    Claim(
        "plane, equal calls in total",
        f"{ED}; 17 calls",
        "lower",
        Rule("improvement", high=1.0),
        ours_is="DTM, joint head, 1 backbone and 16 head calls: no free lunch",
        baseline_is=f"{FM}, at 17 calls (16 of Heun)",
    ),
    Claim(
        "plane, one inner step",
        f"{ED}; 1 backbone and 1 head call",
        "lower",
        Rule("improvement", low=0.8, high=1.25),
        ours_is="DTM, joint head: one inner Euler step is an Euler step of flow matching",
        baseline_is="flow matching, Euler, at 1 call",
    ),
    Claim(
        "plane, joint against per-coordinate head",
        f"{ED}, 4 backbone calls; 16 inner Euler steps",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="DTM, joint head",
        baseline_is="DTM, a head per coordinate",
    ),
    *(
        Claim(
            f"digits, {count} backbone call{'' if count == 1 else 's'}",
            f"{FD}; 16 inner Euler steps",
            "lower",
            Rule("improvement", low=1.0),
            paper="GenEval at 16 to 32 backbone calls: .54, flow matching at 256: .47",
            ours_is="DTM, the better of a joint head and a head per 2x2 patch",
            baseline_is=f"flow matching, the better of two networks and of Euler and Heun, at {count}",
            cause="at four calls flow matching under Heun's rule is as good" if count == 4 else "",
        )
        for count in (1, 2, 4)
    ),
    Claim(
        "digits, equal calls in total",
        f"{FD}; 34 calls",
        "lower",
        None,
        ours_is="DTM, 2 backbone and 32 head calls",
        baseline_is="flow matching, the better of two networks and of Euler and Heun, at 34",
    ),
    Claim(
        "digits, head on a frozen flow",
        f"{FD}, 2 backbone calls; 16 inner Euler steps",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="DTM, joint head trained on the frozen backbone of the flow",
        baseline_is="the flow itself, the better of Euler and Heun, at 2 calls",
    ),
    *(
        Claim(
            f"digits token by token, T={steps}: independent against linear",
            f"{FD}; 16 tokens of 2x2, {16 * steps} backbone calls",
            "lower",
            Rule("improvement", low=1.5),
            paper="autoregressive kernels on the linear process collapse in sampling (section 3.2)",
            ours_is="ARTM on the independent process",
            baseline_is="ARTM on the linear process",
            cause="after 600 steps of 32 pictures both kernels are far from trained, and what the process does to "
            "samples does not show; the training loss shows the leak",
        )
        for steps in (2, 3)
    ),
    Claim(
        "digits token by token, T=3: training loss",
        "ARTM loss on the training digits, fixed draws",
        "lower",
        Rule("improvement", low=1.0),
        ours_is="linear process: its shared noise gives the answer away",
        baseline_is="independent process",
    ),
)


def experiment(setting: Setting) -> Outcome:
    """The plane, the digits as a whole, and the digits token by token."""
    out = Outcome()
    _plane(setting, out)
    _digits(setting, out)
    _tokens(setting, out)
    return out


def _chain(flow: Flow, n: int, backbone: int, head: int, seed: int) -> Tensor:
    """Samples of a kernel with so many backbone calls, and so many head calls for each of them."""
    return flow.sample(n, seed=seed, solver=ChainSolver(Euler(), TimeGrid(head)), grid=TimeGrid(backbone), batch_size=n)


def _field(flow: Flow, n: int, calls: int, seed: int, distance: Callable[[Tensor], float]) -> tuple[float, Tensor]:
    """The better of Euler and Heun at so many calls (Heun makes an even number): figure and samples."""
    ways = [(Euler(), calls)] + ([(Heun(), calls // 2)] if calls > 1 else [])
    found = [flow.sample(n, seed=seed, solver=solver, steps=steps, batch_size=n) for solver, steps in ways]
    return min(((distance(x), x) for x in found), key=lambda pair: pair[0])


def _plane(setting: Setting, out: Outcome) -> None:
    data = EightGaussians(radius=2.0, std=0.12)
    n = setting.pick(4000, 500)
    checked, final = (_stratified(data, n, generator(setting.seed, name)) for name in ("tuning", "figures"))

    def run(make: Callable[[NetSpec], networks.Network], objective: Objective | None, rates: Sequence[float]) -> Flow:
        """Trained at each rate; the one whose samples with many calls are nearest to points kept for tuning."""
        flows = []
        for lr in rates:
            settings = TrainSettings(
                steps=setting.pick(3000, 150), batch_size=256, lr=lr, optimizer="adam", device="cpu"
            )
            flows.append(train(make, data, objective=objective, settings=settings, seed=setting.seed))

        def figure(flow: Flow) -> float:
            x = flow.sample(n, seed=1, steps=32, batch_size=n, solver=None if flow.kind == "kernel" else Euler())
            return float(energy_distance(x, checked))

        return min(flows, key=figure) if len(flows) > 1 else flows[0]

    setting.say("plane: flow matching, DTM with a joint head and with a head per coordinate")
    flow = run(lambda spec: MLP(spec, hidden=(96, 96, 96)), None, RATES)
    joint = run(MLPKernel, DTM(), RATES)
    single = run(lambda spec: MLPKernel(spec, patch=1), DTM(), RATES)

    def distance(x: Tensor) -> float:
        return float(energy_distance(x, final))

    euler = [distance(flow.sample(n, seed=2, solver=Euler(), steps=k, batch_size=n)) for k in COUNTS]
    best = {k: _field(flow, n, k, 2, distance)[0] for k in (*COUNTS, 17)}
    drawn = {(s, k): _chain(joint, n, k, s, 2) for s in (1, 4, 16) for k in COUNTS if s < 16 or k < 32}
    error = {key: distance(x) for key, x in drawn.items()}
    apart = {k: distance(_chain(single, n, k, 16, 2)) for k in COUNTS[:-1]}
    floor = distance(_stratified(data, n, generator(setting.seed, "floor")))
    out.values |= {
        "plane, 1 backbone call": Measured(error[16, 1], best[1], calls=17),
        "plane, 2 backbone calls": Measured(error[16, 2], best[2], calls=34),
        "plane, 4 backbone calls": Measured(error[16, 4], best[4], calls=68),
        "plane, 1 backbone call against flow matching with 4": Measured(error[16, 1], best[4], calls=17),
        "plane, equal calls in total": Measured(error[16, 1], best[17], calls=17),
        "plane, one inner step": Measured(error[1, 1], euler[0], calls=2),
        "plane, joint against per-coordinate head": Measured(error[16, 4], apart[4], calls=68),
    }
    columns = ("arm", *(f"{k} backbone" for k in COUNTS))
    rows: list[tuple[str, list[float | None]]] = [("flow matching, Euler", list(euler))]
    rows.append((FM, [best[k] for k in COUNTS]))
    for s in (1, 4, 16):
        rows.append((f"DTM, joint head, {s} head calls per backbone call", [error.get((s, k)) for k in COUNTS]))
    rows.append(("DTM, head per coordinate, 16 head calls per backbone call", [apart.get(k) for k in COUNTS]))
    rows.append(("data against data", [floor] * len(COUNTS)))
    out.tables.append(Table("plane", f"Plane: {ED}, by backbone calls", columns, rows))
    total = {"flow matching, Euler": ([float(k) for k in COUNTS], [max(e, 1e-4) for e in euler])}
    for s in (1, 4, 16):
        counts = [k for k in COUNTS if (s, k) in error]
        total[f"DTM, {s} head calls each"] = (
            [float(k * (1 + s)) for k in counts],
            [max(error[s, k], 1e-4) for k in counts],
        )
    title = "Plane: calls of backbone and head together (below 1e-4 drawn there)"
    out.curves.append(Curves("plane", title, "network calls in total", "energy distance", total, log="xy"))
    clouds = {"flow matching, 2 calls": points_of(flow.sample(n, seed=2, solver=Euler(), steps=2, batch_size=n))}
    clouds |= {f"DTM, {k} backbone x 16 head": points_of(drawn[16, k]) for k in (1, 2)}
    clouds["DTM, 2 backbone x 1 head"] = points_of(drawn[1, 2])
    out.scatters.append(Scatter("plane-samples", "Few backbone calls", {"data": points_of(final), **clouds}))


def _stratified(data: EightGaussians, n: int, g: torch.Generator) -> Tensor:
    """n points of the eight Gaussians, as many of each: random numbers of each would add .003 to the distance."""
    angle = torch.arange(n) % 8 * (math.pi / 4)
    return data.radius * torch.stack([angle.cos(), angle.sin()], 1) + data.std * randn((n, 2), g)


def _digits(setting: Setting, out: Outcome) -> None:
    digits = Digits()
    pictures = all_images(digits)
    data, n = Tensors(pictures), setting.pick(1000, 200)
    settings = TrainSettings(steps=setting.pick(2000, 150), batch_size=128, lr=2e-3, device="cpu")
    fd, real = FrechetDistance(SmallClassifier("digits")), held_out(digits)

    def distance(x: Tensor) -> float:
        return fd(x, real, resamples=0).value

    setting.say("digits: two networks of flow matching")
    flows = {
        "4 x 256": train(lambda spec: MLP(spec, hidden=(256,) * 4), data, settings=settings, seed=setting.seed),
        "6 x 256, residual": train(
            lambda spec: MLP(spec, hidden=(256,) * 6, residual=True), data, settings=settings, seed=setting.seed
        ),
    }
    setting.say("digits: DTM with a joint head, and with a head per patch")
    # backbone and head are six layers on each other: plain ones of that depth hardly train, whatever the objective
    kernels = {
        name: train(
            lambda spec, head=head, patch=patch: MLPKernel(
                spec, (256,) * 4, residual=True, head=PlainHead(head), patch=patch
            ),
            data,
            objective=DTM(),
            settings=settings,
            seed=setting.seed,
        )
        for name, head, patch in (("joint head", (256, 256), None), ("head per 2x2 patch", (64, 64), 2))
    }
    setting.say("digits: a head on the frozen flow")
    small = flows["4 x 256"]
    network = small.network
    assert isinstance(network, networks.Network)
    frozen = train(
        FieldKernel(network, PlainHead((256, 256))), data, objective=DTM(), settings=settings, seed=setting.seed + 1
    )

    counts = (1, 2, 4, 8, 34)
    plain = {name: {k: _field(f, n, k, 2, distance) for k in counts} for name, f in flows.items()}
    best = {k: min((found[k] for found in plain.values()), key=lambda pair: pair[0]) for k in counts}
    drawn = {name: {k: _chain(f, n, k, 16, 2) for k in counts[:4]} for name, f in kernels.items()}
    error = {name: {k: distance(x) for k, x in found.items()} for name, found in drawn.items()}
    on_frozen = {k: distance(_chain(frozen, n, k, 16, 2)) for k in counts[:4]}
    for k in (1, 2, 4):
        ours = min(found[k] for found in error.values())
        out.values[f"digits, {k} backbone call{'' if k == 1 else 's'}"] = Measured(ours, best[k][0], calls=17 * k)
    out.values |= {
        "digits, equal calls in total": Measured(min(found[2] for found in error.values()), best[34][0], calls=34),
        "digits, head on a frozen flow": Measured(on_frozen[2], plain["4 x 256"][2][0], calls=34),
    }
    rows: list[tuple[str, list[float | None]]] = [
        (f"flow matching, {name}", [found[k][0] for k in counts]) for name, found in plain.items()
    ]
    rows += [(f"DTM, {name}", [found.get(k) for k in counts]) for name, found in error.items()]
    rows.append(("DTM, joint head on the frozen flow", [on_frozen.get(k) for k in counts]))
    columns = ("arm, 16 head calls per backbone call", *(f"{k} backbone" for k in counts))
    out.tables.append(Table("digits", f"Digits: {FD}, by backbone calls", columns, rows))
    strips = with_nearest(drawn["joint head"][2], pictures, "DTM, joint head, 2 backbone x 16 head calls")
    strips["DTM, head per patch, 2 backbone x 16 head calls"] = images_of(drawn["head per 2x2 patch"][2])
    strips |= {f"flow matching, {k} calls": images_of(best[k][1]) for k in (2, 34)}
    out.pictures.append(Pictures("digits-samples", "Digits, classes not given", strips))


def _tokens(setting: Setting, out: Outcome) -> None:
    digits = Digits()
    pictures = all_images(digits)
    data, n = Tensors(pictures), setting.pick(1000, 100)
    settings = TrainSettings(steps=setting.pick(600, 30), batch_size=32, lr=2e-3, device="cpu")
    fd, real = FrechetDistance(SmallClassifier("digits")), held_out(digits)
    grids = {1: (0.0, 1.0), 2: (0.0, 0.5, 1.0), 3: (0.0, 0.5, 0.75, 1.0)}
    head = PlainHead((96, 96))

    def run(chain: interpolants.ChainProcess, history: bool = False) -> Flow:
        assert chain.times is not None
        steps = len(chain.times) - 1
        return train(
            (lambda spec: HistoryKernel(spec, steps, 2, 64, 4, head=head))
            if history
            else (lambda spec: PrefixKernel(spec, 2, 64, 4, head=head)),
            data,
            objective=FHTM() if history else ARTM(),
            transport=Transport(interpolant=chain),
            settings=settings,
            seed=setting.seed,
        )

    flows = {}
    for steps, times in grids.items():
        setting.say(f"digits token by token: T={steps}")
        flows[f"ARTM, T={steps}, independent"] = run(IndependentChain(times))
        if steps > 1:  # at T=1 the two processes are one
            flows[f"ARTM, T={steps}, linear"] = run(LinearChain(times, "next"))
    flows["FHTM, T=2, independent"] = run(IndependentChain(grids[2]), history=True)
    inner = ChainSolver(Euler(), TimeGrid(8))
    drawn = {name: flow.sample(n, seed=2, solver=inner, batch_size=n) for name, flow in flows.items()}
    error = {name: fd(x, real, resamples=0).value for name, x in drawn.items()}
    loss = {name: _loss(flow, pictures[:512]) for name, flow in flows.items()}
    for steps in (2, 3):
        out.values[f"digits token by token, T={steps}: independent against linear"] = Measured(
            error[f"ARTM, T={steps}, independent"], error[f"ARTM, T={steps}, linear"], calls=16 * steps * 9
        )
    out.values["digits token by token, T=3: training loss"] = Measured(
        loss["ARTM, T=3, linear"], loss["ARTM, T=3, independent"]
    )
    rows: list[tuple[str, list[float | None]]] = [
        (name, [error[name], loss[name], 16.0 * (len(flow.sampler.grid.times()) - 1)]) for name, flow in flows.items()
    ]
    columns = ("arm, 8 head calls a token", "FD[digits classifier]", "training loss", "backbone calls")
    out.tables.append(Table("tokens", "Digits as 16 tokens of 2x2, drawn one after the other", columns, rows))
    strips = with_nearest(drawn["ARTM, T=3, independent"], pictures, "ARTM, T=3, independent")
    strips |= {name: images_of(x) for name, x in drawn.items() if name != "ARTM, T=3, independent"}
    out.pictures.append(Pictures("tokens-samples", "Digits, token by token", strips))


@torch.no_grad()
def _loss(flow: Flow, x1: Tensor) -> float:
    """The training objective on these pictures, with draws that are the same for all."""
    objective = FHTM() if isinstance(flow.network, HistoryKernel) else ARTM()
    nets = Networks(flow.network, transport=flow.transport)
    return float(objective(nets, x1, generator(0, "loss")).mean())


SYSTEM = System(
    slug="transition-matching",
    title="Transition matching",
    paper="Shaul, Singer, Gat, Lipman: Transition Matching: Scalable and Flexible Generative Modeling, NeurIPS 2025",
    arxiv="2506.23589",
    purpose="Draws data in a few stochastic transitions: one backbone call each, and a light head that draws the rest.",
    seats={
        "interpolant": (LinearChain, IndependentChain),
        "objective": (DTM, ARTM, FHTM),
        "network": (MLPKernel, networks.DiTKernel, FieldKernel, PrefixKernel, HistoryKernel),
        "head": (PlainHead, networks.AdaLNHead),
        "solver": (ChainSolver,),
        "guidance": (guidance.GuidedKernel,),
        "oracle": (oracles.GaussianKernel, oracles.ExactKernel),
    },
    claims=CLAIMS,
    experiment=experiment,
)
