"""States cut into tokens, and put together again."""

from __future__ import annotations

from torch import Tensor

from advect.errors import InputError


def token_count(shape: tuple[int, ...], patch: int) -> tuple[int, int]:
    """Number of tokens and numbers per token of a state of this shape (without batch).

    Raises:
        InputError: If patches do not tile it.
    """
    if len(shape) == 3:
        channels, high, wide = shape
        if patch >= 1 and high % patch == 0 and wide % patch == 0:
            return high * wide // patch**2, channels * patch**2
        raise InputError(f"patch is {patch}, which does not tile a state of {high} x {wide}: give a common divisor")
    if len(shape) == 1:
        if patch >= 1 and shape[0] % patch == 0:
            return shape[0] // patch, patch
        raise InputError(f"patch is {patch}, which does not divide a state of {shape[0]} numbers")
    raise InputError(f"shape is {shape}: tokens are cut from vectors (d,) and pictures (channels, height, width)")


def to_tokens(x: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, tokens, C * patch * patch), row by row; (B, d) -> (B, d / patch, patch)."""
    if x.ndim == 2:
        return x.reshape(x.shape[0], -1, patch)
    rows, c, high, wide = x.shape
    x = x.reshape(rows, c, high // patch, patch, wide // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(rows, high * wide // patch**2, c * patch * patch)


def from_tokens(tokens: Tensor, shape: tuple[int, ...], patch: int) -> Tensor:
    """The inverse of :func:`to_tokens`, for a state of this shape (without batch)."""
    rows = tokens.shape[0]
    if len(shape) == 1:
        return tokens.reshape(rows, *shape)
    c, high, wide = shape
    x = tokens.reshape(rows, high // patch, wide // patch, c, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(rows, c, high, wide)
