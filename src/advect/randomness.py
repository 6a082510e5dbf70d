"""Every draw goes through a ``torch.Generator`` whose seed is a function of where the draw happens, not of history."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_of(*path: int | str) -> int:
    """Hash a path such as ``(seed, "train", step, shard, "noise")`` to a 63-bit seed; equal paths, equal seeds."""
    digest = hashlib.blake2b(repr(path).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*path: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by ``seed_of(*path)``. Nothing is saved to resume: the path says it all."""
    return torch.Generator(device=device).manual_seed(seed_of(*path))


def randn(
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Standard normal numbers; drawn on the generator's device and moved, so a CPU seed means the same anywhere."""
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
    if generator is None or device is None or generator.device == torch.device(device):
        return torch.rand(shape, generator=generator, dtype=dtype, device=device)
    return torch.rand(shape, generator=generator, dtype=dtype, device=generator.device).to(device)


def randn_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal numbers of x's shape, type and device."""
    return randn(x.shape, generator, dtype=x.dtype, device=x.device)


def randint(
    high: int, shape: Sequence[int], generator: torch.Generator | None = None, *, device: torch.device | str = "cpu"
) -> Tensor:
    """Integers in [0, high)."""
    where = generator.device if generator is not None else torch.device(device)
    return torch.randint(high, tuple(shape), generator=generator, device=where).to(device)


def randperm(n: int, generator: torch.Generator | None = None, *, device: torch.device | str = "cpu") -> Tensor:
    """A permutation of 0..n-1."""
    where = generator.device if generator is not None else torch.device(device)
    return torch.randperm(n, generator=generator, device=where).to(device)
