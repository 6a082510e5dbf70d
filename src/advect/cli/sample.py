"""``advect sample``: files of samples, on one process or many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advect.cli.flows import Sampling, conditions_for, open_for
from advect.cli.parsing import instantiate, new_parser, parse
from advect.cli.progress import Progress
from advect.cli.shards import Crew, Parts
from advect.errors import InputError
from advect.fields import Run, calls_text
from advect.files import read_json, write_json
from advect.flow import Flow
from advect.report import save_each, save_png

FORMATS = ("png", "npz", "npy")


def make_parser() -> Any:
    """Options of `advect sample`."""
    parser = new_parser("sample", "Draw samples from a trained flow; under accelerate launch all processes share them.")
    parser.add_argument(
        "flow", help="run folder, folder with a flow.json or of a diffusers pipeline, or a flow that ships with advect"
    )
    parser.add_argument("-n", "--count", type=int, default=64, help="how many samples")
    parser.add_argument(
        "-o", "--out", default=None, help="a folder for PNG files, or a .npz or .npy file; FLOW/generated if not given"
    )
    parser.add_argument("--format", default=None, help="png, npz or npy, where the name of --out does not say it")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    parser.add_class_arguments(Sampling, as_group=False)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Sample, write, and say where and how fast."""
    parser = make_parser()
    given = parse(parser, arguments)
    how = instantiate(parser, given)
    sampling = Sampling(**{name: how[name] for name in Sampling.__dataclass_fields__})
    if given.count < 1 or sampling.batch_size < 1:
        raise InputError(f"count is {given.count} and batch_size {sampling.batch_size}: both are at least 1")
    flow = open_for(given.flow, sampling)
    out, kind = target(given.out, given.format, given.flow, flow)
    conditions_for(flow, sampling.cond, 0, 1)
    sampler = flow.sampler.but(**sampling.sampler_part(flow))
    flow.check(sampler)
    sampler.warn_of_other_rule(flow.sampler)
    if given.dry_run:
        print(f"would write {given.count} samples of shape {flow.shape} to {out} ({kind})")
        print(f"sampler: {sampler}")
        return 0
    crew = Crew(sampling.device)
    try:
        seconds, counts = draw(flow.to(crew.device), sampling, given.count, out, kind, crew)
    finally:
        crew.close()
    if crew.main:
        write_json(
            out / "samples.json" if kind == "png" else out.with_suffix(".json"),
            {
                "flow": str(given.flow),
                "n": given.count,
                "seed": sampling.seed,
                "calls": dict(counts.calls),
                "processes": crew.count,
                "seconds": round(seconds, 3),
            },
        )
        samples = f"{given.count} sample{'s' * (given.count != 1)}"
        print(f"{samples} in {seconds:.1f} s, {calls_text(counts.calls, ' each')}: {out}")
    return 0


def target(out: str | None, kind: str | None, flow_path: str, flow: Flow) -> tuple[Path, str]:
    """Where samples go, and as what: pictures as PNG, anything else as npz, unless told otherwise."""
    picture = len(flow.shape) == 3 and flow.codec.data_shape(flow.shape)[0] in (1, 3)
    if out is None:
        kind = kind or ("png" if picture else "npz")
        beside = Path(flow_path) if Path(flow_path).is_dir() else Path("runs") / flow_path  # a shipped flow has a name
        out = str(beside / ("generated" if kind == "png" else f"generated.{kind}"))
    path = Path(out)
    named = path.suffix.lstrip(".") if path.suffix in (".npz", ".npy") else "png"
    kind = kind or (named if named != "png" or picture else "npz")
    if kind not in FORMATS:
        raise InputError(f"format is {kind!r}: choose from {', '.join(FORMATS)}")
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
        raise InputError(f"out is {path}, the name of one picture: name a folder, and its sheet is FOLDER.png")
    if named != "png" and kind != named:
        raise InputError(f"out is {path} and format {kind}: give one of them, or a name that fits the format")
    if kind == "png" and not picture:
        raise InputError(f"samples of shape {flow.shape} are no pictures: write them with --format npz or npy")
    if kind != "png" and path.suffix != f".{kind}":
        path = path.with_name(f"{path.name}.{kind}")
    return path, kind


def draw(flow: Flow, how: Sampling, n: int, out: Path, kind: str, crew: Crew) -> tuple[float, Run]:
    """Draw this process's batches, write them, and merge; returns seconds and counts of one trajectory."""
    parts = Parts(out)
    if crew.main:
        parts.clear()
        if kind == "png":
            _clear_old(out)
            write_json(out / "samples.json", {"n": n})  # what a stop halfway leaves is known to the next call
    crew.wait()
    batches = list(crew.batches(n, how.batch_size))
    progress = Progress() if crew.main else None
    if progress is not None:
        progress.start("sampling", 0, sum(count for _, count in batches))
    counts, done, began = Run(), 0, time.perf_counter()
    shown: list[Tensor] = []
    options = how.options(flow)
    for first, count in batches:
        counts = Run()
        cond = conditions_for(flow, how.cond, first, count)
        x = flow.sample(count, first=first, run=counts, **options, **cond).cpu()
        if kind == "png":
            save_each(out, x, first)
            if crew.main and sum(map(len, shown)) < 64:
                shown.append(x[: 64 - sum(map(len, shown))])
        else:
            labels = {name: _column(value, count) for name, value in cond.items()} if kind == "npz" else {}
            parts.write(first, {"x1": x.numpy(), **{name: value.numpy() for name, value in labels.items()}})
        done += count
        if progress is not None:
            progress.step(done)
    if progress is not None:
        progress.finish()
    crew.wait()
    if crew.main:
        if kind == "png":
            save_png(sheet_of(out), torch.cat(shown))
        else:
            parts.merge(n)
    crew.wait()
    return time.perf_counter() - began, counts


def sheet_of(folder: Path) -> Path:
    """The sheet lies beside the folder, whose pictures then are samples and nothing else."""
    return folder.with_name(f"{folder.name}.png")


def _clear_old(folder: Path) -> None:
    """Remove the samples that an earlier call wrote into the same folder, so that two flows never mix in it."""
    written = folder / "samples.json"
    for number in range(int(read_json(written)["n"]) if written.is_file() else 0):
        (folder / f"{number:06d}.png").unlink(missing_ok=True)


def _column(value: Any, n: int) -> Tensor:
    value = torch.as_tensor(value)
    return value if value.ndim and len(value) == n else value.expand(n, *value.shape)
