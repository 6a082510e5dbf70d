"""``advect restore``: degraded pictures, and a trained flow as what pictures look like."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from advect.cli.flows import Opening, conditions_for, open_flow
from advect.cli.parsing import instantiate, new_parser, parse
from advect.cli.progress import Progress
from advect.cli.restored_files import Work, read_work, refuse_out, write_work
from advect.errors import InputError
from advect.fields import Run
from advect.files import save_tensors, write_json
from advect.flow import Flow
from advect.guidance import Guidance
from advect.inverse import CalibratedWeights, Flair, InverseMethod, Operator, PriorWeights, restore
from advect.inverse.operators import MaskFile
from advect.parts import config_of
from advect.saving import versions
from advect.training.processes import find_device


@dataclass(frozen=True)
class Restoring:
    """What happened to the pictures, and how they are restored.

    Args:
        operator: How the pictures were degraded (class name, arguments after it: ``--operator AverageDown
            --operator.factor 4``); its `noise` is what the data steps stop at.
        mask: Instead of an operator, for inpainting: a picture or .npy file, white (True) where pixels are observed.
        method: How they are restored (class name).
        truth: The clean picture, or a folder with clean pictures of the same names, to measure against.
        samples: Restored pictures for each given one; from 2 on their spread is written too.
        weights: Fitted prior weights of FLAIR by name; None takes "prior-weights" if there are some, "none" constant
            ones. ``advect calibrate FLOW --fit FitPriorWeights`` finds them.
        overlap: How far windows of a picture larger than the prior overlap, in states of the codec.
        guidance: How the prior is steered: one rule or a list of them.
        cond: What the prior is told, by name: ``--cond.label 3``, a class by its name, ``--cond.prompt TEXT``; ``each``
            tells the draws of every picture the classes in turn, and takes as many samples; nothing is the null
            condition.
        pipeline: How the folder of a diffusers pipeline is opened.
        seed: Draw i depends on the seed and i alone.
        batch_size: Draws made together.
        device: "auto" takes a GPU if there is one.
        trust_remote_code: Whether classes outside advect that the flow names may be imported.
    """

    operator: Operator | None = None
    mask: str | None = None
    method: InverseMethod = Flair()
    truth: str | None = None
    samples: int = 1
    weights: str | None = None
    overlap: int | None = None
    guidance: Guidance | list[Guidance] | None = None
    cond: dict[str, str | int | float | list[float]] = field(default_factory=dict)
    pipeline: Opening = Opening()
    seed: int = 0
    batch_size: int = 64
    device: str = "auto"
    trust_remote_code: bool = False


def run(arguments: Sequence[str]) -> int:
    """Restore, write pictures and figures, and say where."""
    parser = new_parser(
        "restore", "Restore degraded pictures with a trained flow as prior: files, or all pictures of a folder."
    )
    parser.add_argument(
        "flow", help="run folder, folder with a flow.json or of a diffusers pipeline, or a flow that ships with advect"
    )
    parser.add_argument("images", nargs="+", help="degraded pictures, or folders of them (clean ones with --degrade)")
    parser.add_argument("-o", "--out", default="restored", help="folder for the pictures and restored.json")
    parser.add_argument(
        "--degrade",
        action="store_true",
        help="the pictures are clean: degrade them first, with noise, and measure how well they are restored",
    )
    parser.add_class_arguments(Restoring, as_group=False)
    given = parse(parser, arguments)
    built = instantiate(parser, given)
    how = Restoring(**{name: built[name] for name in Restoring.__dataclass_fields__})
    operator = _operator(how)
    if min(how.samples, how.batch_size) < 1:
        raise InputError(f"samples is {how.samples} and batch_size {how.batch_size}: both are at least 1")
    flow = open_flow(given.flow, how.trust_remote_code, how.pipeline)
    method = _method(how, flow)
    _conditions(flow, how)
    out = Path(given.out)
    refuse_out(out, given.images, how.truth)
    work = read_work(flow, given.images, operator, given.degrade, how.truth, how.seed)
    flow = flow.to(find_device(how.device))
    began = time.perf_counter()
    counts = _restore_all(flow, work, operator, method, how)
    seconds = time.perf_counter() - began
    rows = write_work(out, work, operator)
    if operator.state_dict():  # a kernel or mask that was drawn or read: kept beside what was restored with it
        save_tensors(out / "operator.safetensors", operator.state_dict())
    write_json(
        out / "restored.json",
        {
            "flow": str(given.flow),
            "operator": config_of(operator),
            "method": config_of(method),
            "degraded_here": given.degrade,
            "samples": how.samples,
            "seed": how.seed,
            "calls": dict(counts.calls),
            "seconds": round(seconds, 3),
            "pictures": rows,
            "versions": versions(),
        },
    )
    for row in rows:
        print(_line(row))
    print(f"{len(rows)} picture{'s' * (len(rows) != 1)} in {seconds:.1f} s, {counts.nfe} network calls each: {out}")
    return 0


def _operator(how: Restoring) -> Operator:
    if how.mask is not None:
        if how.operator is not None:
            raise InputError(f"mask is {how.mask} and an operator is given too: give one of them")
        return MaskFile(how.mask)
    if how.operator is None:
        raise InputError("operator is missing: name how the pictures were degraded with --operator CLASS, or a --mask")
    return how.operator


def _method(how: Restoring, flow: Flow) -> InverseMethod:
    """The method, with the prior weights that were found for this flow."""
    method = how.method
    if not isinstance(method, Flair):
        if how.weights not in (None, "none"):
            raise InputError(f"weights is {how.weights!r}, but {type(method).__name__} has none: they are for Flair")
        return method
    name = "prior-weights" if how.weights is None else how.weights
    if name == "none" or (how.weights is None and name not in flow.fitted):
        return method
    part = flow.fitted.get(name)
    if not isinstance(part, PriorWeights):
        there = ", ".join(k for k, v in flow.fitted.items() if isinstance(v, PriorWeights)) or "none"
        raise InputError(
            f"weights is {name!r}, and the prior weights of this flow are: {there}; "
            "advect calibrate FLOW --fit FitPriorWeights finds them"
        )
    if isinstance(part, CalibratedWeights) and part.fitted_on not in (None, flow.weights_hash()):
        raise InputError(f"the prior weights {name!r} were found on other weights of the network: calibrate again")
    return dataclasses.replace(method, weights=part)


def _conditions(flow: Flow, how: Restoring) -> dict[str, Any]:
    """What the draws of one picture are told: every picture is told the same."""
    told = conditions_for(flow, how.cond, 0, how.samples)
    if missing := sorted(set(told) - set(how.cond)):
        name = missing[0]
        raise InputError(
            f"cond.{name} is not given, and this prior was trained without dropping it: name the class of the "
            f"pictures with --cond.{name}, or each, with --samples {flow.conditions[name].width}"
        )
    for name in (name for name in told if how.cond[name] == "each"):
        classes = flow.conditions[name].width
        if how.samples < classes:
            raise InputError(
                f"cond.{name} is each, and samples is {how.samples}: every picture is restored under each of the "
                f"{classes} classes, so give --samples {classes}, or one class"
            )
    return told


def _restore_all(flow: Flow, work: list[Work], operator: Operator, method: InverseMethod, how: Restoring) -> Run:
    """Fill in the restored pictures; equal shapes run together."""
    rules = (how.guidance,) if isinstance(how.guidance, Guidance) else tuple(how.guidance or ())
    numbers = [(i, s) for i in range(len(work)) for s in range(how.samples)]
    progress, done, counts = Progress(), 0, Run()
    progress.start("restoring", 0, len(numbers))
    told = _conditions(flow, how)
    for shape, same in groupby(numbers, key=lambda number: work[number[0]].shape):
        group = list(same)
        for first in range(0, len(group), how.batch_size):
            chunk = group[first : first + how.batch_size]
            counts = Run()
            draws = torch.tensor([s for _, s in chunk])
            cond = {name: v[draws] if how.cond[name] == "each" else v for name, v in told.items()}
            found = restore(
                flow,
                torch.cat([work[i].y for i, _ in chunk]),
                operator,
                method,
                shape=shape,
                guidance=rules,
                overlap=how.overlap,
                seed=how.seed,
                first=done,
                run=counts,
                **cond,
            ).x.cpu()
            for (i, _), x in zip(chunk, found, strict=True):
                work[i].restored.append(x)
            done += len(chunk)
            progress.step(done)
    progress.finish()
    return counts


def _line(row: dict[str, Any]) -> str:
    figures = {k: v for k, v in row.items() if isinstance(v, float)}
    return f"{row['name']}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
