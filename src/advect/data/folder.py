"""A folder of pictures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from advect.data.pictures import SUFFIXES, Pictures, Resize
from advect.data.splits import split_rows
from advect.data.table import Table, TableData
from advect.errors import InputError

NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class ImageFolder(TableData):
    """Picture files in a folder; folders inside it are classes, named and sorted by name.

    ``photos/cat/1.jpg``, or ``photos/train/cat/1.jpg`` with ``train``, ``validation`` (or ``val``) and ``test``; a
    split without its own folder is carved from training, each class alike. Transparent pictures are laid on white,
    photographs turned upright; pictures are grey if all files are.

    Args:
        path: The folder.
        resolution: Height and width of all pictures, one number or two; None: they must have one size already.
        resize: How a picture comes to that size: cut the middle, pad with white, or stretch.
        labels: Whether folders are classes (if there are two or more).
        validation: Share held out for validation if there is no such folder, in [0, 1).
        test: Share held out for testing if there is no such folder, in [0, 1).
        split_seed: Seed of what is held out.
        memory_gb: Decoded pictures stay in memory if they take no more than this; else they are decoded per batch.
    """

    path: str
    resolution: int | tuple[int, int] | None = None
    resize: Resize = "crop"
    labels: bool = True
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    memory_gb: float = 4.0

    def _read(self) -> Table:
        root = Path(self.path)
        if not root.is_dir():
            raise InputError(f"{root} is not a folder: give the folder that holds the pictures")
        folders = _split_folders(root) or {"train": root}
        files = {split: _pictures(folder) for split, folder in folders.items()}
        every = [file for found in files.values() for file in found]
        of_file = [_class(file, folders[split]) for split, found in files.items() for file in found]
        classes = _classes(root, of_file) if self.labels else None
        if self.labels:
            _warn_of_empty(folders["train"], {name for name in of_file if name})
        labels = None if classes is None else torch.tensor([classes.index(name) for name in of_file])
        pictures = Pictures(
            [str(file) for file in every],
            lambda number: every[number].open("rb"),
            self.resolution,
            self.resize,
            self.path,
        )
        fractions: dict[str, float] = {"validation": self.validation, "test": self.test}
        return Table(
            self.path,
            pictures.loaded(self.memory_gb),
            split_rows({split: len(found) for split, found in files.items()}, labels, fractions, self.split_seed),
            labels,
            classes,
            kind="image",
        )


def _split_folders(root: Path) -> dict[str, Path]:
    """The folders of the splits, or none if there is no training folder."""
    found = {split: root / name for split, names in NAMES.items() for name in reversed(names) if (root / name).is_dir()}
    if "train" not in found:
        return {}
    for other in sorted(root.iterdir()):
        if other.is_dir() and other not in found.values() and any(_is_picture(file) for file in other.rglob("*")):
            raise InputError(
                f"{root} holds the folder {found['train'].name}, a split, and {other.name}, which is none: move all "
                f"classes into {found['train'].name}, or give a class of that name another one"
            )
    return found


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _pictures(folder: Path) -> list[Path]:
    """All picture files below a folder, sorted; hidden files are passed over."""
    files = [file for file in sorted(folder.rglob("*")) if _is_picture(file)]
    if not files:
        raise InputError(
            f"{folder} holds no pictures ({', '.join(SUFFIXES[:4])}, ...): give the folder that holds them"
        )
    return files


def _class(file: Path, folder: Path) -> str:
    """The folder right below the split's folder, or nothing if the file lies in that itself."""
    inside = file.relative_to(folder).parts
    return inside[0] if len(inside) > 1 else ""


def _warn_of_empty(folder: Path, names: set[str]) -> None:
    """A class folder without pictures is a class that its owner expects and that is missing."""
    empty = sorted(f.name for f in folder.iterdir() if f.is_dir() and f.name[0] != "." and f.name not in names)
    if names and empty:
        warnings.warn(
            f"{folder}: {', '.join(empty[:5])} among its folders holds no pictures and is no class: "
            "add some, or remove the folder",
            stacklevel=2,
        )


def _classes(root: Path, of_file: list[str]) -> tuple[str, ...] | None:
    names = tuple(sorted(set(of_file)))
    if len(names) == 1:
        return None
    if "" in names:
        raise InputError(
            f"{root} holds pictures both in folders ({names[1]}, ...) and beside them: sort all into class folders, or "
            "set labels=False"
        )
    return names
