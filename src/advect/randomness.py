"""Every draw goes through a ``torch.Generator`` whose seed is a function of where the draw happens, not of history."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def seed_of(*path: int | str) -> int:
    """Hash a path such as ``(seed, "train", step, shard, "noise")`` to a 63-bit seed; equal paths, equal seeds."""
    digest = hashlib.blake2b(repr(path).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*path: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by ``seed_of(*path)``. Nothing is saved to resume: the path says it all."""
    return torch.Generator(device=device).manual_seed(seed_of(*path))


class NumberedGenerator(torch.Generator):
    """Numbers for the samples `first`, ..., `first + count - 1` that depend on the path and the sample's number alone.

    A draw of shape (count, ...) through the helpers below is cut from blocks of fixed size, each with a generator of
    its own, so that however the samples are cut into batches or spread over processes, sample i sees the same
    numbers, also in the middle of a stochastic run. Draws of other shapes come from one stream that all batches share.

    Args:
        path: What seeds it, as in :func:`seed_of`.
        first: Number of the first sample, at least 0.
        count: How many samples, at least 1.
    """

    BLOCK = 64

    def __new__(cls, *path: int | str, first: int, count: int) -> NumberedGenerator:
        return super().__new__(cls)

    def __init__(self, *path: int | str, first: int, count: int) -> None:
        self.manual_seed(seed_of(*path))
        self.count = count
        self._path, self._span, self._forks = path, (first, count), 0
        start, stop = first // self.BLOCK, (first + count - 1) // self.BLOCK + 1
        self._blocks = [generator(*path, block) for block in range(start, stop)]
        self._take: slice | Tensor = slice(first % self.BLOCK, first % self.BLOCK + count)
        self._index: Tensor | None = None

    def draw(self, kind: Callable[..., Tensor], shape: Sequence[int], **options: Any) -> Tensor:
        """`kind` is ``torch.randn`` or one like it; `shape` starts with `count`."""
        drawn = [kind((self.BLOCK, *shape[1:]), generator=g, **options) for g in self._blocks]
        return (drawn[0] if len(drawn) == 1 else torch.cat(drawn))[self._take]

    def forked(self, index: Tensor | None = None) -> NumberedGenerator:
        """Other numbers for the same samples, or for those at the places `index` alone; this stream stays where it is.

        The n-th fork of equal generators is the same whatever is drawn in between, and a sample's numbers in it do not
        depend on which other samples are among them.
        """
        self._forks += 1
        first, count = self._span
        made = NumberedGenerator(*self._path, "fork", self._forks, first=first, count=count)
        index, own = None if index is None else index.cpu(), self._index
        index = own if index is None else index if own is None else own[index]
        if index is not None:
            block, place = (index + first % self.BLOCK) // self.BLOCK, (index + first % self.BLOCK) % self.BLOCK
            used, number = block.unique(return_inverse=True)
            made._blocks = [made._blocks[b] for b in used.tolist()]
            made._take, made._index, made.count = number * self.BLOCK + place, index, len(index)
        return made


def forked(generator: torch.Generator | None, index: Tensor | None = None) -> torch.Generator | None:
    """A generator for draws whose number is not known beforehand (rejection), so that those after it do not shift.

    Args:
        generator: Where numbers come from; one draw is taken from it, unless it is numbered. None stays None.
        index: Places in the batch (n,) of the samples that are drawn for, if not for all of them.
    """
    if generator is None:
        return None
    if isinstance(generator, NumberedGenerator):
        return generator.forked(index)
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return torch.Generator(device=generator.device).manual_seed(seed)


def _numbered(generator: torch.Generator | None, shape: Sequence[int]) -> bool:
    return isinstance(generator, NumberedGenerator) and len(shape) > 0 and shape[0] == generator.count


def randn(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal numbers; drawn on the generator's device and moved, so a CPU seed means the same anywhere."""
    if _numbered(generator, shape):
        return generator.draw(torch.randn, shape, dtype=dtype).to(device)  # pyright: ignore
    if generator is None or device is None or generator.device == torch.device(device):
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)
    return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device).to(device)


def rand(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1); drawn on the generator's device and moved."""
    if _numbered(generator, shape):
        return generator.draw(torch.rand, shape, dtype=dtype).to(device)  # pyright: ignore
    if generator is None or device is None or generator.device == torch.device(device):
        return torch.rand(shape, generator=generator, dtype=dtype, device=device)
    return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device).to(device)


def gamma(
    concentration: float,
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Gamma(concentration, 1) numbers; drawn on the generator's device and moved. A chi-squared is twice Gamma(D/2)."""

    def draw(size: Sequence[int], **options: Any) -> Tensor:
        alpha = torch.full(tuple(size), concentration, dtype=dtype, device=options.pop("device", None))
        return torch._standard_gamma(alpha, generator=options["generator"])  # pyright: ignore[reportPrivateImportUsage]

    if _numbered(generator, shape):
        return generator.draw(draw, shape).to(device)  # pyright: ignore
    where = device if generator is None else generator.device
    return draw(shape, generator=generator, device=where).to(device)


def randn_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers of x's shape, type and device."""
    return randn(x.shape, generator, dtype=x.dtype, device=x.device)


def randint(
    high: int, shape: Sequence[int], generator: torch.Generator | None = None, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Integers in [0, high)."""
    if _numbered(generator, shape):
        return generator.draw(lambda size, **o: torch.randint(high, size, **o), shape).to(device)  # pyright: ignore
    where = generator.device if generator is not None else torch.device(device)
    return torch.randint(high, tuple(shape), generator=generator, device=where).to(device)


def randperm(n: int, generator: torch.Generator | None = None, *, device: torch.device | str = "cpu") -> Tensor:
    """A permutation of 0..n-1."""
    where = generator.device if generator is not None else torch.device(device)
    return torch.randperm(n, generator=generator, device=where).to(device)
