"""What commands share: opening a flow by folder or name, its classes, and the options that change how it is sampled."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from advect.adapters import from_pretrained, is_pipeline
from advect.conditions import ClassLabel
from advect.errors import InputError
from advect.flow import Flow
from advect.guidance import Guidance
from advect.solvers import Solver
from advect.sources import PrunedSource, Source
from advect.times import Grid
from advect.training import find_flow
from advect.training.checkpoints import save_flow

ASSETS = Path(__file__).parents[1] / "assets"


def flow_folder(path: str) -> Path:
    """The folder of a run's, checkpoint's or saved flow, of a diffusers pipeline, or of a flow that ships."""
    if is_pipeline(path):
        return Path(path)
    if Path(path).exists():
        return find_flow(path)
    shipped = {found.name.removesuffix("-flow"): found for found in sorted(ASSETS.glob("*-flow"))}
    if path not in shipped:
        names = f", or one that ships with advect ({', '.join(shipped)})" if shipped else ""
        raise InputError(f"there is no flow at {path}: give the folder of a run or of a saved flow{names}")
    return shipped[path]


def own_folder(path: str) -> Path:
    """Where what is found for a flow is kept: in its folder; for one that ships with advect, in a copy of its own."""
    folder = flow_folder(path)
    return Path("runs") / folder.name if folder.parent == ASSETS else folder


def open_own(path: str) -> str:
    """What to open to go on from what was found before: the copy of a flow that ships, if there is one."""
    folder = own_folder(path)
    return str(folder) if (folder / "flow.json").exists() else path


def make_own(path: str) -> Path:
    """The folder that :func:`own_folder` names, with the copy in it: the files that ship stay as they are."""
    folder = own_folder(path)
    if folder != flow_folder(path) and not (folder / "flow.json").exists():
        save_flow(open_flow(path), folder)
    return folder


@dataclass(frozen=True)
class Opening:
    """How the folder of a diffusers pipeline is opened; other flows are as they were saved.

    Args:
        height: Height of pictures in pixels; None for the pipeline's own. Likewise `width`.
        width: Width of pictures.
        frames: Frames of videos, 1 more than a multiple of 4.
        negative: The text that guidance compares with.
        guidance: The scale that a guidance-distilled transformer (FLUX.1-dev) is told; rules go with --guidance.
        dtype: The type of the weights; None for the one each part is stored in.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None
    negative: str = ""
    guidance: float | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


def open_flow(path: str, trust_remote_code: bool = False, opening: Opening | None = None) -> Flow:
    """Open a saved flow: its folder, a run or checkpoint, a diffusers folder, or the name of one that ships."""
    folder = flow_folder(path)
    given = {name: value for name, value in vars(opening or Opening()).items() if value not in (None, "")}
    if is_pipeline(folder):
        if "dtype" in given:
            given["dtype"] = getattr(torch, given["dtype"])
        return from_pretrained(folder, **given)
    if given:
        raise InputError(
            f"pipeline.{next(iter(given))} is for the folder of a diffusers pipeline, and {path} is a flow"
        )
    return Flow.from_pretrained(folder, trust_remote_code=trust_remote_code)


def open_for(path: str, how: Sampling) -> Flow:
    """Open a flow to be sampled so: with the weaker flow that AutoGuidance compares with, if one is named."""
    flow = with_weak(open_flow(path, how.trust_remote_code, how.pipeline), how.weak, how.trust_remote_code)
    given = how.guidance if isinstance(how.guidance, list) else [how.guidance]
    rules = flow.sampler.guidance if how.guidance is None else [rule for rule in given if rule is not None]
    if how.weak is not None and not any(rule.against == "weak" for rule in rules):
        warnings.warn("weak names a flow that nothing compares with: add --guidance AutoGuidance", stacklevel=2)
    return flow


def with_weak(flow: Flow, weak: str | None, trust_remote_code: bool = False) -> Flow:
    """The flow, which compares with the weaker one of that folder or name under AutoGuidance."""
    return flow if weak is None else flow.compare_with(open_flow(weak, trust_remote_code))


@dataclass(frozen=True)
class Sampling:
    """How to sample; what is not given is as the flow keeps it.

    Args:
        solver: How it is integrated (class name, arguments after it: ``--solver DormandPrince --solver.rtol 1e-4``).
        steps: Number of steps of the grid.
        grid: At which times (class name).
        guidance: How it is steered: one rule or a list of them.
        weak: Folder or name of the weaker flow (smaller, or trained less) that ``AutoGuidance`` compares with.
        source: Who is at t=0.
        fitted: Parts that were found for this flow (`advect calibrate`), by name: each goes into its seat.
        cond: What it is told, by name: ``--cond.label 3`` for all, a class by its name, ``each`` for all classes in
            turn (sample i gets class i modulo their number), ``none`` for the null condition; ``--cond.prompt TEXT``.
        pipeline: How the folder of a diffusers pipeline is opened.
        seed: Sample i depends on the seed and i alone.
        batch_size: Samples integrated together.
        device: "auto" takes a GPU if there is one.
        trust_remote_code: Whether classes outside advect that the flow names may be imported.
    """

    solver: Solver | None = None
    steps: int | None = None
    grid: Grid | None = None
    guidance: Guidance | list[Guidance] | None = None
    weak: str | None = None
    source: Source | None = None
    fitted: list[str] | str = field(default_factory=list)
    cond: dict[str, str | int | float | list[float]] = field(default_factory=dict)
    pipeline: Opening = Opening()
    seed: int = 0
    batch_size: int = 256
    device: str = "auto"
    trust_remote_code: bool = False

    def sampler_part(self, flow: Flow) -> dict[str, Any]:
        """What differs from the flow's own sampler, for :meth:`Sampler.but`."""
        if isinstance(self.source, PrunedSource) and not len(self.source.rejected):
            raise InputError(
                "source is PrunedSource, which prunes nothing before its axes are found: run advect calibrate FLOW "
                "--fit FitPrunedSource, and sample with --fitted pruned"
            )
        rules = tuple(self.guidance) if isinstance(self.guidance, list) else self.guidance
        given = {
            "solver": self.solver,
            "steps": self.steps,
            "grid": self.grid,
            "guidance": (rules,) if isinstance(rules, Guidance) else rules,
            "source": self.source,
        }
        names = [self.fitted] if isinstance(self.fitted, str) else self.fitted
        return given | {seat: part for name in names for seat, part in _seated(flow, name, given)}

    def options(self, flow: Flow) -> dict[str, Any]:
        """Keyword arguments of :meth:`Flow.sample`, conditions apart."""
        return {**self.sampler_part(flow), "seed": self.seed, "batch_size": self.batch_size}


def _seated(flow: Flow, name: str, given: dict[str, Any]) -> list[tuple[str, Any]]:
    """The seat of a fitted part, and what belongs there."""
    if name not in flow.fitted:
        there = ", ".join(flow.fitted) or "none: advect calibrate finds them"
        raise InputError(f"fitted names {name!r}, and the parts found for this flow are {there}")
    part = flow.fitted[name]
    for seat, kind in {"grid": Grid, "source": Source, "guidance": Guidance}.items():
        if isinstance(part, kind):
            if given[seat] is not None:
                raise InputError(f"fitted names {name!r}, which is a {seat}, and --{seat} is given too: give one")
            return [(seat, (part,) if kind is Guidance else part)]
    raise InputError(f"fitted names {name!r}, a {type(part).__name__}, which has no seat in sampling")


def conditions_for(flow: Flow, given: dict[str, Any], first: int, n: int) -> dict[str, Any]:
    """Values of the conditions of the samples `first`, ..., `first + n - 1`.

    A condition that is not given is null if the flow was trained with dropping it; a class label that never was
    dropped runs through all classes in turn.
    """
    out: dict[str, Any] = {}
    dropped = {name for names in flow.conditions.drop for name in names.split(",")}
    for item in flow.conditions.items:
        value = given.get(item.name)
        if value is None and isinstance(item, ClassLabel) and item.name not in dropped:
            value = "each"
        if value is None or value == "none":
            continue
        if isinstance(item, ClassLabel):
            out[item.name] = _labels(flow, item, value, first, n)
        else:
            out[item.name] = item.read(value)
    for name in given:
        flow.conditions[name]  # names the conditions there are
    return out


def _labels(flow: Flow, item: ClassLabel, value: Any, first: int, n: int) -> Tensor | int:
    if value == "each":
        return (torch.arange(n) + first) % item.classes
    if isinstance(value, list):
        raise InputError(f"cond.{item.name} is {value}: give one class for all, 'each' or 'none'")
    if isinstance(value, (int, float)) or value.lstrip("-").replace(".", "", 1).isdigit():
        number = float(value)
        if number not in range(item.classes):
            raise InputError(
                f"cond.{item.name} is {value}, but there are {item.classes} classes: give a number from 0 to "
                f"{item.classes - 1}, a class by its name, 'each' or 'none'"
            )
        return int(number)
    names = list(flow.record.get("class_names") or [])
    if value in names:
        return names.index(value)
    near = difflib.get_close_matches(value, names, 3, 0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"give a number from 0 to {item.classes - 1}"
    raise InputError(f"cond.{item.name} is {value!r}, which is no class of this flow: {hint}")
