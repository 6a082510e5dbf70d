"""Work spread over processes that accelerate or torchrun has launched, with files merged by the first."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from advect.files import write_atomically
from advect.training.processes import find_device


class Crew:
    """The processes of this launch: one alone, or those that RANK and WORLD_SIZE name.

    Args:
        device: "auto", or a device by name; with several processes on GPUs each takes its own.
    """

    def __init__(self, device: str = "auto") -> None:
        self.index = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = find_device(device)
        if self.count > 1:
            if self.device.type == "cuda" and device in ("auto", "cuda"):
                self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            if not distributed.is_initialized():
                distributed.init_process_group("gloo")

    @property
    def main(self) -> bool:
        """Whether this process merges and prints."""
        return self.index == 0

    def batches(self, n: int, size: int) -> Iterator[tuple[int, int]]:
        """The (first, count) of this process's batches; the cut does not depend on the number of processes."""
        for number, first in enumerate(range(0, n, size)):
            if number % self.count == self.index:
                yield first, min(size, n - first)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1 and distributed.is_initialized():
            distributed.destroy_process_group()


class Parts:
    """Arrays written batch by batch beside the final file, then merged without holding them all in memory.

    Args:
        target: The final ``.npy`` or ``.npz``; the parts lie in ``.<name>.parts`` beside it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f".{target.name}.parts")

    def clear(self) -> None:
        """Remove what a run that was stopped has left: with another seed or batch size it would mix with this one."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                path.unlink()

    def write(self, first: int, arrays: dict[str, np.ndarray]) -> None:
        """Write one batch."""
        for name, value in arrays.items():
            whole = io.BytesIO()  # numpy does not say why it cannot write to a file; Python does
            np.save(whole, value, allow_pickle=False)
            write_atomically(self.folder / f"{name}-{first:012d}.npy", whole.getvalue())

    def merge(self, n: int) -> None:
        """Put the parts together in order, write the final file in one move, and remove the parts."""
        merged: dict[str, np.ndarray] = {}
        for name in sorted({path.name.rpartition("-")[0] for path in self.folder.glob("*-*.npy")}):
            files = sorted(self.folder.glob(f"{name}-*.npy"))
            like = np.load(files[0], mmap_mode="r")
            whole = np.lib.format.open_memmap(
                self.folder / f"{name}.npy", mode="w+", dtype=like.dtype, shape=(n, *like.shape[1:])
            )
            for path in files:
                part, first = np.load(path, mmap_mode="r"), int(path.stem.rpartition("-")[2])
                whole[first : first + len(part)] = part
            whole.flush()
            merged[name] = whole
        if self.target.suffix == ".npz":
            temporary = self.folder / "whole.npz"
            np.savez(temporary, **merged)  # pyright: ignore[reportArgumentType]
        else:
            temporary = self.folder / "x1.npy"
        os.replace(temporary, self.target)
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()
