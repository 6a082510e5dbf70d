"""Rejection sampling in which every sample takes the first of its own proposals that passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advect.randomness import forked

Propose = Callable[[Tensor | None, torch.Generator | None], tuple[Tensor, Tensor]]


def first_accepted(propose: Propose, generator: torch.Generator | None, max_rounds: int) -> tuple[Tensor, int]:
    """Proposals (B, *shape), each replaced until it passes, and how many never did.

    Rounds after the first draw from forks of the generator, for the samples that are left: with a numbered generator a
    sample's draw depends on its number alone, however the samples are cut into batches, and so do draws made later.

    Args:
        propose: ``propose(index, generator) -> (x, accepted)`` for the samples at the places `index` (None: all of
            them), with `accepted` one truth value each.
        generator: Where numbers come from; the first round draws from it directly.
        max_rounds: Proposals per sample, at least 1.
    """
    x, accepted = propose(None, generator)
    left = (~accepted).nonzero()[:, 0]
    rounds = forked(generator)
    for _ in range(max_rounds - 1):
        if not len(left):
            break
        again, accepted = propose(left, forked(rounds, left))
        x[left] = again
        left = left[~accepted]
    return x, len(left)
