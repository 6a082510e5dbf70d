"""Handwritten digits token by token: what an autoregressive kernel learns on a linear and an independent process."""

from __future__ import annotations

import torch
from torch import Tensor

from advect.data import Digits, Tensors
from advect.flow import Flow
from advect.interpolants import ChainProcess, IndependentChain, LinearChain
from advect.networks import HistoryKernel, PlainHead, PrefixKernel
from advect.objectives import ARTM, FHTM, Networks
from advect.randomness import generator
from advect.solvers import ChainSolver, Euler
from advect.systems.framework import (
    Measured,
    Outcome,
    Pictures,
    Setting,
    Table,
    all_images,
    compared,
    judged_digits,
    with_nearest,
)
from advect.systems.transition_matching.digits import FD
from advect.times import TimeGrid
from advect.training import TrainSettings, train
from advect.transport import Transport

GRIDS = {1: (0.0, 1.0), 2: (0.0, 0.5, 1.0), 3: (0.0, 0.5, 0.75, 1.0)}

CLAIMS = (
    *(
        compared(
            f"digits token by token, T={steps}: independent against linear",
            f"{FD}; 16 tokens of 2x2, {16 * steps} backbone calls",
            "ARTM on the independent process",
            "ARTM on the linear process",
            low=1.5,
            paper="autoregressive kernels on the linear process collapse in sampling (section 3.2)",
            cause="after 600 steps of 32 pictures both kernels are far from trained, and what the process does to "
            "samples does not show; the training loss shows the leak",
        )
        for steps in (2, 3)
    ),
    compared(
        "digits token by token, T=3: training loss",
        "ARTM loss on the training digits, fixed draws",
        "linear process: its shared noise gives the answer away",
        "independent process",
        low=1.0,
    ),
)


def measure(setting: Setting, out: Outcome) -> None:
    """Frechet distance and training loss of both processes, and of a kernel with a full history."""
    digits = Digits()
    pictures = all_images(digits)
    flows: dict[str, Flow] = {}
    for steps, times in GRIDS.items():
        setting.say(f"digits token by token: T={steps}")
        flows[f"ARTM, T={steps}, independent"] = _trained(setting, pictures, IndependentChain(times))
        if steps > 1:  # at T=1 the two processes are one
            flows[f"ARTM, T={steps}, linear"] = _trained(setting, pictures, LinearChain(times, "next"))
    flows["FHTM, T=2, independent"] = _trained(setting, pictures, IndependentChain(GRIDS[2]), history=True)
    n, inner, distance = setting.pick(1000, 100), ChainSolver(Euler(), TimeGrid(8)), judged_digits(digits)
    drawn = {name: flow.sample(n, seed=2, solver=inner, batch_size=n) for name, flow in flows.items()}
    error = {name: distance(x) for name, x in drawn.items()}
    loss = {name: _loss(flow, pictures[:512]) for name, flow in flows.items()}
    for steps in (2, 3):
        out.values[f"digits token by token, T={steps}: independent against linear"] = Measured(
            error[f"ARTM, T={steps}, independent"], error[f"ARTM, T={steps}, linear"], calls=16 * steps * 9
        )
    out.values["digits token by token, T=3: training loss"] = Measured(
        loss["ARTM, T=3, linear"], loss["ARTM, T=3, independent"]
    )
    calls = {name: 16.0 * (len(flow.sampler.grid.times()) - 1) for name, flow in flows.items()}
    rows = {name: [error[name], loss[name], calls[name]] for name in flows}
    columns = ("arm, 8 head calls a token", "FD[digits classifier]", "training loss", "backbone calls")
    out.tables.append(Table.of("tokens", "Digits as 16 tokens of 2x2, drawn one after the other", columns, rows))
    shown = "ARTM, T=3, independent"
    strips = {name: x for name, x in drawn.items() if name != shown}
    near = with_nearest(drawn[shown], pictures, shown)
    out.pictures.append(Pictures.of("tokens-samples", "Digits, token by token", {**near, **strips}))


def _trained(setting: Setting, pictures: Tensor, chain: ChainProcess, history: bool = False) -> Flow:
    assert chain.times is not None
    steps, head = len(chain.times) - 1, PlainHead((96, 96))
    return train(
        (lambda spec: HistoryKernel(spec, steps, 2, 64, 4, head=head))
        if history
        else (lambda spec: PrefixKernel(spec, 2, 64, 4, head=head)),
        Tensors(pictures),
        objective=FHTM() if history else ARTM(),
        transport=Transport(interpolant=chain),
        settings=TrainSettings(steps=setting.pick(600, 30), batch_size=32, lr=2e-3, device="cpu"),
        seed=setting.seed,
    )


@torch.no_grad()
def _loss(flow: Flow, x1: Tensor) -> float:
    """The training objective on these pictures, with draws that are the same for all."""
    objective = FHTM() if isinstance(flow.network, HistoryKernel) else ARTM()
    nets = Networks(flow.network, transport=flow.transport)
    return float(objective(nets, x1, generator(0, "loss")).mean())
