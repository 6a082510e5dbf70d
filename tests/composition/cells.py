"""One cell: a choice for every seat, trained for two steps, sampled twice, saved and loaded; or refused before."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from axes import AXES, CLASSES, PLAIN, SHAPE
from pairwise import Row

from advect.batch import Batch
from advect.data import Tensors
from advect.distillation.reflow import REFUSAL
from advect.errors import InputError
from advect.flow import Flow
from advect.interpolants import AffineInterpolant
from advect.networks import EtaScore, NetSpec, Prediction
from advect.sampler import Sampler
from advect.solvers import EulerLast, Heun
from advect.times import TimeGrid
from advect.training import TrainSettings, prepare
from advect.training.running import run_job
from advect.transport import Transport

STEPS, COUNT = 2, 3


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: None if it ran, else the sentence that refused it."""

    row: Row
    refusal: str | None = None


def made(seat: str, name: str) -> Any:
    """A new member."""
    maker = AXES[seat][name]
    return None if maker is None else maker()


def shape_of(row: Row) -> tuple[int, ...]:
    """Pictures, but points for a source whose means are points."""
    return (2,) if row["source"] == "GaussianMixture" else SHAPE


def data_for(row: Row) -> Tensors | SegmentsOf:
    """Twenty-four labelled samples, with the other end where it belongs to the data."""
    g = torch.Generator().manual_seed(0)
    x1, x0 = torch.randn(24, *shape_of(row), generator=g), torch.randn(24, *shape_of(row), generator=g)
    labels = torch.arange(24) % CLASSES
    if row["objective"] == "SegmentRegression":
        return SegmentsOf(x1, labels, x0=x0)
    return Tensors(x1, labels, x0=x0 if row["coupling"] == "Paired" else None)


class SegmentsOf(Tensors):
    """Pairs that are the ends of two segments."""

    def batch(self, split: Any, index: torch.Tensor, generator: torch.Generator | None = None) -> Batch:
        batch = super().batch(split, index, generator)
        r = 0.5 * (index % 2).to(batch.x1.dtype)
        return batch.replace(extras={"r": r, "t": r + 0.5})


def arguments_of(row: Row) -> dict[str, Any]:
    """What `prepare` is called with; making the parts may itself be refused."""
    path, source = made("interpolant", row["interpolant"]), made("source", row["source"])
    network, kind = AXES["network"][row["network"]], row["prediction"]
    assert network is not None

    def build(spec: NetSpec) -> Any:
        net = network(spec)
        if kind == "v":
            return net
        if not isinstance(path, AffineInterpolant):
            raise InputError(f"the path {type(path).__name__} is not affine, so a network on it predicts the velocity")
        return Prediction(net, kind, path, source)  # pyright: ignore[reportArgumentType]

    objective, others = made("objective", row["objective"]), {}
    for role, needed in objective.needs.items():
        if role not in ("model", "ema"):
            others[role] = (
                (lambda spec: EtaScore(AXES["network"]["MLP"](spec), path))  # pyright: ignore[reportOptionalCall]
                if needed.startswith("trained")
                else AXES["network"]["MLP"]
            )
    sampler = None
    if row["solver"] != "as trained" or row["guidance"] != "none":
        rule, solver = made("guidance", row["guidance"]), made("solver", row["solver"])
        usual = Sampler.for_kind(_kind(objective))
        if usual.solver.takes == "field":
            usual = usual.but(solver=EulerLast(Heun()))  # makes no call at t=1, where a rule may need one
        if rule is not None and rule.against == "weak":  # the weaker model is named when sampling
            rule = None
        stochastic = solver is not None and solver.stochastic and solver.takes == "field"
        grid = TimeGrid(3, 1e-3, 1 - 1e-3) if stochastic else TimeGrid(3)
        start = made("source", "Gaussian") if source.needs_x1 else None  # a source for training alone
        sampler = usual.but(solver=solver, grid=grid, source=start, guidance=None if rule is None else (rule,))
    refusal = REFUSAL if row["objective"] == "OnlineReflow" else None
    return {
        "network": build,
        "data": data_for(row),
        "objective": objective,
        "transport": Transport(source, made("coupling", row["coupling"]), path, refusal),
        "drop": {"label": 0.2},
        "sampler": sampler,
        "others": others,
    }


def _kind(objective: Any) -> Any:
    return objective.needs.get("model", "field").replace("_", " ")


def run(row: Row) -> Outcome:
    """Run a cell; anything but a refusal before the training, or good samples, is an error."""
    settings = TrainSettings(steps=STEPS, batch_size=6, device="cpu", ema=None)
    try:
        arguments = arguments_of(row)
        job, config = prepare(**arguments, settings=settings)
    except InputError as error:
        return Outcome(row, str(error))
    flow = run_job(job, config, None, resume=True)
    rule = made("guidance", row["guidance"])
    if rule is not None and rule.against == "weak":
        try:
            flow.compare_with(copy.deepcopy(flow)).field(guidance=(rule,))
        except InputError as error:
            return Outcome(row, str(error))
    first, again = sampled(flow, row), sampled(flow, row)
    assert first.shape == (COUNT, *shape_of(row)), row
    assert bool(torch.isfinite(first).all()), row
    assert torch.equal(first, again), row
    return Outcome(row)


def sampled(flow: Flow, row: Row) -> torch.Tensor:
    """A few seeded samples, as the row has it."""
    short = row["solver"] == "as trained" and isinstance(flow.sampler.grid, TimeGrid)
    more: dict[str, Any] = {"steps": 3} if short else {}
    rule = made("guidance", row["guidance"])
    if rule is not None and rule.against == "weak":
        more["guidance"] = rule
    if (flow.sampler.source or flow.transport.source).needs_x1:
        more["source"] = made("source", "Gaussian")
    return flow.sample(COUNT, seed=1, label=torch.arange(COUNT) % CLASSES, **more)


def attempts(choices: Row) -> list[Row]:
    """The plain row with some choices; then with what these choices need elsewhere, as far as that is still open."""
    rows = [PLAIN | choices]
    for seat, value, needed in NEEDS:
        if choices.get(seat) == value:
            row = rows[-1] | {k: v for k, v in needed.items() if k not in choices}
            if row != rows[-1]:
                rows.append(row)
    return rows


def run_pair(choices: Row) -> Outcome:
    """The first attempt that runs, or else the last refusal."""
    outcome = Outcome(choices, "")
    for row in attempts(choices):
        try:
            outcome = run(row)
        except Exception as error:
            raise AssertionError(f"{row}: {type(error).__name__}: {error}") from error
        if outcome.refusal is None:
            break
    return outcome


KERNELS = {"PrefixKernel": "ARTM", "HistoryKernel": "FHTM"}
NEEDS: list[tuple[str, str, dict[str, str]]] = [
    ("objective", "SegmentRegression", {"coupling": "Paired"}),
    *(
        ("objective", name, {"interpolant": "StochasticInterpolant"})
        for name in ("InterpolantLoss", "VelocityAndScore")
    ),
    ("objective", "DTM", {"network": "MLPKernel", "interpolant": "LinearChain"}),
    *(
        (seat, name, {"objective": objective, "network": network, "interpolant": "IndependentChain"})
        for network, objective in KERNELS.items()
        for seat, name in (("objective", objective), ("network", network))
    ),
    *(("network", name, {"objective": "DTM", "interpolant": "LinearChain"}) for name in ("MLPKernel", "DiTKernel")),
    ("interpolant", "LinearChain", {"objective": "DTM", "network": "MLPKernel"}),
    ("interpolant", "IndependentChain", {"objective": "ARTM", "network": "PrefixKernel"}),
    ("solver", "FlowMapJumps", {"objective": "MeanFlow"}),
    ("solver", "ChainSolver", {"objective": "DTM", "network": "MLPKernel", "interpolant": "LinearChain"}),
]
"""What a choice needs elsewhere; where a cell chooses otherwise there too, it is to be refused."""
