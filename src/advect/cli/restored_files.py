"""What `advect restore` reads and writes: measurements from picture files, restored pictures, their spread, a sheet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advect.data.pictures import GREY_MODES, SUFFIXES, decode, look
from advect.errors import InputError, MissingExtra
from advect.files import read_json, write_atomically
from advect.flow import Flow
from advect.inverse import Operator, relative_residual
from advect.inverse.restoring import refuse_size
from advect.metrics import STLPIPS, psnr, ssim
from advect.randomness import generator
from advect.report.pictures import as_bytes, png, tile

SHEET = 8  # pictures on the sheet at most


@dataclass
class Work:
    """One picture on its way.

    Attributes:
        name: The file's name without its ending.
        shape: Shape (C, H, W) of the picture to restore.
        y: Its measurement, (1, *m).
        truth: The clean picture (1, C, H, W), where it is known.
        restored: The draws, each (C, H, W).
    """

    name: str
    shape: tuple[int, ...]
    y: Tensor
    truth: Tensor | None = None
    restored: list[Tensor] = field(default_factory=list)


def read_work(
    flow: Flow, images: list[str], operator: Operator, degrade: bool, truth: str | None, seed: int
) -> list[Work]:
    """Read all pictures and check that prior and operator fit them, before anything is computed or written."""
    if degrade and truth is not None:
        raise InputError(f"degrade says that the pictures are clean, and truth is {truth} too: give one of them")
    own = flow.codec.data_shape(flow.shape)
    out: list[Work] = []
    for number, path in enumerate(_files(images)):
        shown = _read(path, own[0])
        shape = tuple(shown.shape[1:]) if degrade else operator.picture_shape(tuple(shown.shape[1:]))
        try:
            refuse_size(shape, own)
            flow.codec.latent_shape(shape)
            operator.output_shape(shape)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if degrade:
            y, clean = operator.measure(shown, generator(seed, "measurement", number)), shown
        else:
            y, clean = operator.measurement_of(shown), None if truth is None else _truth(Path(truth), path, shape)
        out.append(Work(path.stem, shape, y, clean))
    if len(out) > 1 and truth is not None and Path(truth).is_file():
        raise InputError(
            f"truth is {truth}, one picture, and there are {len(out)} to restore: give a folder with one for each"
        )
    names = [one.name for one in out]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two pictures are called {twice}: rename one, since the restored ones are called like them")
    return sorted(out, key=lambda one: one.shape)  # equal shapes run together


def write_work(out: Path, work: list[Work], operator: Operator) -> list[dict[str, Any]]:
    """Write every picture and the sheet, in the place of those of an earlier call; returns the figures of each."""
    out.mkdir(parents=True, exist_ok=True)
    _clear_old(out)
    try:
        perceptual: STLPIPS | None = STLPIPS()
    except MissingExtra:
        perceptual = None
    rows = []
    for one in work:
        x = torch.stack(one.restored)
        for k, picture in enumerate(as_bytes(x)):
            name = one.name if len(x) == 1 else f"{one.name}-{k}"
            write_atomically(out / f"{name}.png", png(picture))
        write_atomically(out / f"{one.name}-measured.png", png(as_bytes(_shown(one, operator))[0]))
        row = {"name": one.name, "width": one.shape[2], "height": one.shape[1]} | _figures(
            one, x, operator.cpu(), perceptual
        )
        if len(x) > 1:
            spread = x.std(0).mean(0, keepdim=True)
            row["spread"] = float(spread.mean())
            row["largest spread"] = float(spread.max())
            write_atomically(out / f"{one.name}-spread.png", png(as_bytes(_spread(x))[0]))
        rows.append(row)
    _write_sheet(out, work, operator)
    return rows


def refuse_out(out: Path, images: list[str], truth: str | None) -> None:
    """Refuse to write where given pictures lie, whose names the restored ones take, or a report of somebody else."""
    for path in _files([*images, truth] if truth is not None and Path(truth).exists() else images):
        if path.resolve().parent == out.resolve():
            raise InputError(f"out is {out}, where the picture {path} lies that would be overwritten: name another one")
    _written(out)


def _clear_old(out: Path) -> None:
    """Remove what an earlier call wrote into the same folder, so that two never mix in it."""
    for name in _written(out):
        (out / name).unlink(missing_ok=True)


def _written(out: Path) -> list[str]:
    """The files that an earlier call wrote into a folder, by its report."""
    path = out / "restored.json"
    if not path.is_file():
        return []
    report = read_json(path)
    try:
        draws, names = int(report["samples"]), [Path(row["name"]).name for row in report["pictures"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no report of advect restore: name another folder with --out") from error
    kinds = ["", "-measured"] if draws == 1 else ["-measured", "-spread", *(f"-{k}" for k in range(draws))]
    return [f"{name}{kind}.png" for name in names for kind in kinds] + ["sheet.png", "operator.safetensors"]


def _figures(one: Work, x: Tensor, operator: Operator, perceptual: STLPIPS | None) -> dict[str, float]:
    """Means over the draws; PSNR also of the draws' mean, which is the better estimate in squares."""
    row: dict[str, float] = {}
    if operator.noise > 0:
        y = one.y.expand(len(x), *one.y.shape[1:])
        row["residual over noise"] = float(relative_residual(operator, x, y).mean())
    if one.truth is None:
        return row
    truth = one.truth.expand_as(x)
    row["PSNR"] = float(psnr(x, truth).mean())
    if len(x) > 1:
        row["PSNR of the mean"] = float(psnr(x.mean(0, keepdim=True), one.truth).mean())
    if min(one.shape[1:]) >= 11:
        row["SSIM"] = float(ssim(x, truth).mean())
    if perceptual is not None and min(one.shape[1:]) >= 22:
        row[perceptual.name] = float(perceptual(x, truth).mean())
    return row


def _shown(one: Work, operator: Operator) -> Tensor:
    return operator.cpu().back_projection(one.y, one.shape)


def _spread(x: Tensor) -> Tensor:
    """Standard deviation over the draws as a grey picture, white where it is largest."""
    spread = x.std(0).mean(0, keepdim=True)
    return (2 * spread / spread.max().clamp_min(1e-12) - 1)[None]


def _write_sheet(out: Path, work: list[Work], operator: Operator) -> None:
    """One column a picture: truth, measurement, draws, spread; pictures of the first one's size."""
    shown = [one for one in work if one.shape == work[0].shape][:SHEET]
    draws = min(4, len(shown[0].restored))
    rows = [torch.cat([_shown(one, operator) for one in shown])]
    rows += [torch.stack([one.restored[k] for one in shown]) for k in range(draws)]
    if len(shown[0].restored) > 1:
        spreads = torch.cat([_spread(torch.stack(one.restored)) for one in shown])
        rows.append(spreads.expand(-1, shown[0].shape[0], -1, -1))
    if all(one.truth is not None for one in shown):
        rows.insert(0, torch.cat([one.truth for one in shown if one.truth is not None]))
    write_atomically(out / "sheet.png", png(tile(torch.cat(rows), len(shown))))


def _files(images: list[str]) -> list[Path]:
    out: list[Path] = []
    for name in images:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"there are no pictures in {path}: name files, or a folder that holds some")
            out += inside
        elif path.is_file():
            out.append(path)
        else:
            raise InputError(f"there is no picture at {path}: name files, or folders that hold some")
    return out


def _read(path: Path, channels: int) -> Tensor:
    with path.open("rb") as file:
        mode = look(str(path), file)[2]  # refuses more than 8 bits a channel, which would be cut off at white
        if channels == 1 and mode not in (*GREY_MODES, "LA"):
            raise InputError(f"{path}: the picture has colours, and the prior was trained on grey ones: make it grey")
        file.seek(0)
        return decode(str(path), file, channels, None, "crop").float()[None] / 127.5 - 1


def _truth(truth: Path, path: Path, shape: tuple[int, ...]) -> Tensor:
    if truth.is_dir():
        named = [file for file in sorted(truth.iterdir()) if file.stem == path.stem and file.suffix.lower() in SUFFIXES]
        if not named:
            raise InputError(f"truth is {truth}, which holds no picture called {path.stem}: give one for each")
        truth = named[0]
    elif not truth.is_file():
        raise InputError(f"there is no picture at {truth}: truth names the clean picture or a folder of them")
    clean = _read(truth, shape[0])
    if tuple(clean.shape[1:]) != shape:
        raise InputError(
            f"the true picture {truth} is {clean.shape[-1]}x{clean.shape[-2]} and the restored one "
            f"{shape[2]}x{shape[1]}: give the clean picture of that size"
        )
    return clean
