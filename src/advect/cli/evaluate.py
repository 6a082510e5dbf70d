"""``advect evaluate``: a flow's samples, or samples from a file, measured against real data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advect.adapters import is_pipeline
from advect.batch import Batch
from advect.cli.flows import Sampling, conditions_for, open_for
from advect.cli.parsing import instantiate, new_parser, parse
from advect.cli.run_report import conditions_like, held_out, metrics_for
from advect.data import Arrays, Data, ImageFolder
from advect.errors import InputError
from advect.fields import calls_text
from advect.files import write_json
from advect.flow import Flow
from advect.metrics import Metric
from advect.parts import build, class_path, config_of
from advect.report import measure
from advect.saving import versions
from advect.training.processes import find_device


@dataclass(frozen=True)
class Against:
    """What samples are measured against, and how.

    Args:
        data: Real data; None takes those that the flow was trained on (its test split).
        metrics: Figures to take; None takes the energy distance, and for built-in pictures the distance and accuracy
            by their classifier too.
        n: Samples drawn, and real ones at most.
    """

    data: Data | None = None
    metrics: list[Metric] | None = None
    n: int = 1000


def run(arguments: Sequence[str]) -> int:
    """Measure, print, and write JSON."""
    parser = new_parser("evaluate", "Measure samples of a flow (or a file of samples) against real data.")
    parser.add_argument(
        "flow",
        help="run folder, folder with a flow.json or of a diffusers pipeline, a flow that ships with advect; "
        "or a .npz, .npy or folder of PNG files with samples",
    )
    parser.add_argument("-o", "--out", default=None, help="JSON file; FLOW/evaluation.json if not given")
    parser.add_class_arguments(Against, as_group=False)
    parser.add_class_arguments(Sampling, as_group=False)
    given = parse(parser, arguments)
    built = instantiate(parser, given)
    against = Against(**{name: built[name] for name in Against.__dataclass_fields__})
    how = Sampling(**{name: built[name] for name in Sampling.__dataclass_fields__})
    if against.n < 4:
        raise InputError(f"n is {against.n}: a figure with an interval takes at least 4 samples")
    path = Path(given.flow)
    samples = _stored(path)
    if samples is None:
        flow = open_for(given.flow, how).to(find_device(how.device))
        data = data_of(flow, against.data, how.trust_remote_code)
        result = of_flow(flow, data, against, how)
    else:
        if against.data is None:
            raise InputError("data is missing: samples from a file are measured against data that --data names")
        data = against.data
        real, other = held_out(data, against.n)
        fake = samples if isinstance(samples, Batch) else Batch(samples)
        if fake.x1.shape[1:] != real.x1.shape[1:]:
            raise InputError(
                f"{path} has samples of shape {tuple(fake.x1.shape[1:])} and data of shape {data.shape}: name like data"
            )
        metrics = _metrics(against, data, labelled=bool(fake.cond))
        result = {"n": len(fake), "metrics": [m(fake, real, other_real=other).as_dict() for m in metrics]}
    result |= {"flow": str(path), "data": config_of(data), "versions": versions()}
    if given.out is not None:
        out = Path(given.out)
    elif path.is_dir():
        out = path / "evaluation.json"
    else:  # a file of samples, or the name of a shipped flow
        out = path.with_name(f"{path.stem}.evaluation.json") if path.exists() else Path("runs") / f"{path}.json"
    write_json(out, result)
    for figure in result["metrics"]:
        print(line(figure))
    if len(result.get("calls_by_role", {})) > 1:
        print(calls_text(result["calls_by_role"], " each"))
    print(f"written to {out}")
    return 0


def of_flow(flow: Flow, data: Data, against: Against, how: Sampling) -> dict[str, Any]:
    """Sample a flow and measure it, with the conditions of the real samples unless they are given."""
    real, other = held_out(data, against.n)
    cond = conditions_like(flow, real, against.n) | conditions_for(flow, how.cond, 0, against.n)
    sampler = flow.sampler.but(**how.sampler_part(flow))
    sampler.warn_of_other_rule(flow.sampler)
    found = measure(
        flow,
        _metrics(against, data, labelled="label" in cond),
        real,
        other,
        n=against.n,
        seed=how.seed,
        sampler=sampler,
        cond=cond,
        batch_size=how.batch_size,
    )
    return found.as_dict() | {"seed": how.seed}


def data_of(flow: Flow, given: Data | None, trusted: bool = False) -> Data:
    """The data that are given, or those that the flow was trained on."""
    if given is not None:
        shape = flow.codec.data_shape(flow.shape)
        if given.shape != shape:
            raise InputError(f"data has samples of shape {given.shape} and the flow of shape {shape}: name like data")
        return given
    described = flow.record.get("data")
    if not isinstance(described, dict) or "class_path" not in described:
        raise InputError("data is missing: the flow does not say on what it was trained, so name it with --data CLASS")
    return build(described, trust_remote_code=trusted)


def line(figure: dict[str, Any]) -> str:
    """One figure with interval, N and floor."""
    interval = "" if figure["low"] is None else f" ({figure['low']:.4g} to {figure['high']:.4g})"
    floor = "" if figure["floor"] is None else f"; real against real {figure['floor']:.4g} (N = {figure['floor_n']})"
    by = f" [{figure['extractor']}]" if figure["extractor"] else ""
    return f"{figure['name']} {figure['value']:.4g}{interval}, N = {figure['n']} against {figure['n_real']}{floor}{by}"


def _metrics(against: Against, data: Data, labelled: bool) -> list[Metric]:
    if against.metrics:
        return list(against.metrics)
    return [m for m in metrics_for(data) if labelled or not class_path(type(m)).endswith("ClassAccuracy")]


def _stored(path: Path) -> Tensor | Batch | None:
    """Samples in a file or folder; None if the path holds a flow."""
    if path.suffix in (".npz", ".npy"):
        data: Data = Arrays(str(path), validation=0.0, test=0.0)
    elif path.is_dir() and not is_pipeline(path) and not list(path.rglob("flow.json")) and any(path.glob("*.png")):
        data = ImageFolder(str(path), labels=False, validation=0.0, test=0.0)
    else:
        return None
    return data.batch("train", torch.arange(data.size("train")))
