"""Small files of every format (24 pictures of 6x6 in 3 classes, no two alike), and an example of each kind of data."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from advect import data
from advect.conditions import ClassLabel
from advect.data.pair_writer import PairWriter

N, SIDE, CLASSES = 24, 6, 3


def pictures(n: int = N, side: int = SIDE, seed: int = 0) -> NDArray[np.uint8]:
    """(n, side, side, 3), random."""
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def labels(n: int = N) -> NDArray[np.int64]:
    return np.arange(n) % CLASSES


def png(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def write_folder(root: Path, n: int = N, side: int = SIDE, seed: int = 0) -> Path:
    """``root/class_0/000.png`` and so on."""
    for i, picture in enumerate(pictures(n, side, seed)):
        file = root / f"class_{i % CLASSES}" / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(picture))
    return root


def write_tar(file: Path, n: int = N, seed: int = 0, classes: bool = True) -> Path:
    """``000.png`` and ``000.cls`` and so on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for i, picture in enumerate(pictures(n, seed=seed)):
            members = {f"{i:03d}.png": png(picture), **({f"{i:03d}.cls": b"%d" % (i % CLASSES)} if classes else {})}
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return file


def idx_bytes(array: NDArray) -> bytes:
    """The idx format for bytes: magic, dimensions, values."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_idx(root: Path, zipped: bool = False) -> Path:
    """Train and t10k, as MNIST has them."""
    root.mkdir(parents=True, exist_ok=True)
    for prefix, seed in (("train", 0), ("t10k", 1)):
        for what, content in (
            ("images-idx3", idx_bytes(pictures(seed=seed)[..., 0])),
            ("labels-idx1", idx_bytes(labels())),
        ):
            name = f"{prefix}-{what}-ubyte"
            if zipped:
                (root / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (root / name).write_bytes(content)
    return root


def cifar_arrays(seed: int, n: int = 20) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return pictures(n, 32, seed), (np.arange(n) % 10).astype(np.uint8)


def write_cifar_binary(root: Path) -> Path:
    """Five batches and the test batch of 20 pictures each: a label byte, then red, green and blue planes."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for seed, name in enumerate(
        ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
    ):
        x, y = cifar_arrays(seed)
        planes = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        (folder / f"{name}.bin").write_bytes(np.concatenate([y[:, None], planes], 1).tobytes())
    return root


def write_cifar_sheets(root: Path) -> Path:
    """The same pictures as sheets with one picture a row."""
    root.mkdir(parents=True)
    train: list[int] = []
    for seed, name in enumerate(
        ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
    ):
        x, y = cifar_arrays(seed)
        (root / f"{name}.png").write_bytes(png(x.reshape(len(x), 1024, 3)))
        if name == "test_batch":
            (root / "test_lables.json").write_text(json.dumps(y.tolist()))
        else:
            train += y.tolist()
    (root / "train_lables.json").write_text(json.dumps(train))
    return root


def write_parquet(file: Path) -> Path:
    """Pictures and class numbers as the Hugging Face library writes them."""
    import datasets

    file.parent.mkdir(parents=True, exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    content = {"image": [{"bytes": png(p), "path": None} for p in pictures()], "label": labels().tolist()}
    datasets.Dataset.from_dict(content, features=features).to_parquet(str(file))
    return file


def _npz(folder: Path) -> str:
    rng = np.random.default_rng(0)
    np.savez(
        folder / "a.npz",
        x1=rng.normal(size=(50, 3)),
        x0=rng.normal(size=(50, 3)),
        label=np.arange(50) % 4,
        age=rng.random(50),
    )
    return str(folder / "a.npz")


def _module(folder: Path) -> str:
    (folder / "made.py").write_text(
        "import torch\n"
        "def make(n, width):\n"
        "    g = torch.Generator().manual_seed(0)\n"
        "    return {'x1': torch.randn(n, width, generator=g), 'label': torch.arange(n) % 2, 'validation': 0.2}\n"
    )
    return str(folder / "made.py") + ":make"


def _pairs(folder: Path) -> str:
    writer = PairWriter(folder / "pairs", 20, (3,), "made by a flow", conditions=(ClassLabel(2),), shard_size=8)
    x0 = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    for shard, rows in writer.missing():
        at = slice(rows.start, rows.stop)
        writer.write(shard, x0[at], 2.0 * x0[at], {"label": torch.arange(20)[at] % 2})
    return str(folder / "pairs")


def _segments(folder: Path) -> str:
    about = {"kind": "segments", "path": [0, 3, 8], "nodes": [0, 3, 5, 8], "times": [i / 8 for i in range(9)]}
    writer = PairWriter(
        folder / "segments", 10, (3,), "made by a flow", conditions=(ClassLabel(2),), shard_size=4, about=about
    )
    states = torch.randn(10, 4, 3, generator=torch.Generator().manual_seed(0))
    for shard, rows in writer.missing():
        at = slice(rows.start, rows.stop)
        writer.write_states(shard, {"states": states[at]}, {"label": torch.arange(10)[at] % 2})
    return str(folder / "segments")


EXAMPLES: dict[str, Callable[[Path], data.Data]] = {
    "StoredPairs": lambda folder: data.StoredPairs(_pairs(folder)),
    "StoredSegments": lambda folder: data.StoredSegments(_segments(folder)),
    "EightGaussians": lambda folder: data.EightGaussians(100),
    "Checkerboard": lambda folder: data.Checkerboard(100),
    "Digits": lambda folder: data.Digits(),
    "Emoji": lambda folder: data.Emoji(),
    "Clothing": lambda folder: data.Clothing(),
    "Tensors": lambda folder: data.Tensors(
        pictures(), labels(), {"age": np.linspace(0, 1, N)}, validation=0.25, test=0.25
    ),
    "Arrays": lambda folder: data.Arrays(_npz(folder), vectors=("age",)),
    "ImageFolder": lambda folder: data.ImageFolder(str(write_folder(folder / "photos")), validation=0.25, test=0.25),
    "ImageFolder on disk": lambda folder: data.ImageFolder(
        str(write_folder(folder / "photos")), resolution=4, memory_gb=0.0, validation=0.25
    ),
    "Idx": lambda folder: data.Idx(str(write_idx(folder / "idx", zipped=True))),
    "Cifar10 binary": lambda folder: data.Cifar10(str(write_cifar_binary(folder / "bin"))),
    "Cifar10 sheets": lambda folder: data.Cifar10(str(write_cifar_sheets(folder / "png"))),
    "WebDataset": lambda folder: data.WebDataset(str(write_tar(folder / "a-000.tar")), validation=0.25),
    "HuggingFace": lambda folder: data.HuggingFace(
        "parquet", data_files={"train": str(write_parquet(folder / "a.parquet"))}
    ),
    "FromCallable": lambda folder: data.FromCallable(_module(folder), {"n": 40, "width": 2}),
    "TwoDomains": lambda folder: data.TwoDomains(
        data.Tensors(pictures(20), validation=0.5), data.Tensors(pictures(30, seed=1), validation=0.5)
    ),
    "HorizontalFlip": lambda folder: data.HorizontalFlip(data.Tensors(pictures(), labels(), validation=0.5)),
    "Shift": lambda folder: data.Shift(data.Tensors(pictures(), labels(), validation=0.5), pixels=2),
}
