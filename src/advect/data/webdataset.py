"""WebDataset tars, indexed so that any sample can be asked for by number."""

from __future__ import annotations

import glob
import io
import re
import tarfile
from dataclasses import dataclass
from typing import NamedTuple

import torch

from advect.data.pictures import SUFFIXES, Pictures, Resize
from advect.data.splits import split_rows
from advect.data.table import Table, TableData
from advect.errors import InputError


class Member(NamedTuple):
    """Where the bytes of one file lie: a tar is only read at these places."""

    tar: str
    name: str
    start: int
    size: int

    def read(self) -> bytes:
        with open(self.tar, "rb") as file:
            file.seek(self.start)
            return file.read(self.size)


@dataclass(frozen=True)
class WebDataset(TableData):
    """Pictures (and class numbers) in tars: ``a.jpg`` and ``a.cls`` are one sample.

    Tars are scanned once for where each file starts; then samples are read by number, in any order, so that shuffling
    and resuming are exact, which a stream cannot give. Gzipped tars have no such places, and are refused.

    Args:
        train: Tars of training samples: a path with ``*``, ``?`` or ``{000..099}``.
        validation_tars: Tars of validation samples; None carves them from training.
        test_tars: Tars of test samples; None carves them from training.
        label: Ending of the file that holds the class number as text; it is used if the first sample has it.
        classes: Names of the classes; None numbers them.
        resolution: Height and width of all pictures; None: they must have one size already.
        resize: How a picture comes to that size: cut the middle, pad with white, or stretch.
        validation: Share held out for validation if no tars are given, in [0, 1).
        test: Share held out for testing if no tars are given, in [0, 1).
        split_seed: Seed of what is held out.
        memory_gb: Decoded pictures stay in memory if they take no more than this; else they are decoded per batch.
    """

    train: str
    validation_tars: str | None = None
    test_tars: str | None = None
    label: str = "cls"
    classes: tuple[str, ...] | None = None
    resolution: int | tuple[int, int] | None = None
    resize: Resize = "crop"
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    memory_gb: float = 4.0

    def _read(self) -> Table:
        patterns: dict[str, str | None] = {
            "train": self.train,
            "validation": self.validation_tars,
            "test": self.test_tars,
        }
        samples = {split: samples_of(pattern) for split, pattern in patterns.items() if pattern is not None}
        every = [sample for found in samples.values() for sample in found]
        members = [_picture(sample) for sample in every]
        labels = torch.tensor([self._label(sample) for sample in every]) if self.label in every[0] else None
        pictures = Pictures(
            [f"{member.tar}:{member.name}" for member in members],
            lambda number: io.BytesIO(members[number].read()),
            self.resolution,
            self.resize,
            self.train,
        )
        fractions: dict[str, float] = {"validation": self.validation, "test": self.test}
        return Table(
            self.train,
            pictures.loaded(self.memory_gb),
            split_rows({split: len(found) for split, found in samples.items()}, labels, fractions, self.split_seed),
            labels,
            self.classes,
            kind="image",
        )

    def _label(self, sample: dict[str, Member]) -> int:
        if self.label not in sample:
            member = next(iter(sample.values()))
            raise InputError(
                f"{member.tar}:{member.name} has no .{self.label} beside it, as the first sample has: add it"
            )
        member = sample[self.label]
        text = member.read().decode(errors="replace").strip()
        try:
            return int(text)
        except ValueError as error:
            raise InputError(f"{member.tar}:{member.name} holds {text[:20]!r}, not a class number") from error


def expand(pattern: str) -> list[str]:
    """The paths that ``{000..099}``, ``*`` and ``?`` stand for, in order; those without ``*`` must exist."""
    if (braces := re.search(r"\{(\d+)\.\.(\d+)\}", pattern)) is not None:
        first, last = braces.groups()
        whole = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
        return [
            path for middle in whole for path in expand(pattern[: braces.start()] + middle + pattern[braces.end() :])
        ]
    return sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]


def samples_of(pattern: str) -> list[dict[str, Member]]:
    """The samples of all tars of a pattern: members by ending, in the order of the tars."""
    samples: dict[tuple[str, str], dict[str, Member]] = {}
    for tar in expand(pattern):
        try:
            with tarfile.open(tar, "r:") as archive:
                for info in archive:
                    if info.isfile():
                        folder, _, name = info.name.rpartition("/")
                        stem, _, ending = name.partition(".")
                        member = Member(tar, info.name, info.offset_data, info.size)
                        samples.setdefault((tar, f"{folder}/{stem}"), {})[ending.lower()] = member
        except FileNotFoundError as error:
            raise InputError(f"{tar} does not exist: check the pattern {pattern!r}") from error
        except (tarfile.TarError, OSError) as error:
            raise InputError(
                f"{tar} cannot be read as a tar ({error}): fetch it again, or unpack it first if it is gzipped"
            ) from error
    with_picture = [sample for sample in samples.values() if any(f".{ending}" in SUFFIXES for ending in sample)]
    if not with_picture:
        raise InputError(
            f"{pattern} holds no pictures ({', '.join(SUFFIXES[:4])}, ...): check the pattern and the tars"
        )
    return with_picture


def _picture(sample: dict[str, Member]) -> Member:
    return next(member for ending, member in sample.items() if f".{ending}" in SUFFIXES)
