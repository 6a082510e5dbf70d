r"""Weights rounded after training, to see how a flow bears errors of its network."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from advect.errors import InputError

Module = TypeVar("Module", bound=nn.Module)


def round_tensor(w: Tensor, bits: int) -> Tensor:
    r"""w' = low + d round((w - low) / d), d = (high - low) / (2^bits - 1): one scale and offset for the tensor.

    The least and the largest value stay as they are, and no entry moves by more than d/2.

    Args:
        w: Any floating tensor.
        bits: Bits per entry, at least 1.

    Source: the weight quantisation of PFGM++, arXiv 2302.04265.
    """
    if bits < 1:
        raise InputError(f"bits is {bits}: rounded weights have at least 1 bit")
    low, high = torch.aminmax(w)
    unit = (high - low) / (2.0**bits - 1)
    rounded = low + unit * ((w - low) / unit).round()
    return torch.where(unit == 0, w, rounded)  # a constant tensor stays


def rounded(
    module: Module, bits: int, *, skip: Sequence[str] = (), names: Sequence[str] | None = None
) -> tuple[Module, list[str]]:
    r"""A copy of a network or Flow whose weight matrices are rounded, and the names of the tensors that were.

    Rounded are the parameters called ``weight`` of two dimensions or more: no biases, no vectors of normalisation
    layers, no activations. The published figures leave further layers alone (embeddings of time, the layers at the
    full resolution); name those in `skip`.

    Args:
        module: A module, for example a :class:`~advect.Flow`; it stays as it is.
        bits: Bits per entry, at least 1; 5 to 9 are published.
        skip: Parameters that match one of these patterns (regular expressions, anywhere in the name) are left alone.
        names: The parameters to round, by full name, instead.

    Raises:
        InputError: If a name is not there, or nothing would be rounded.
    """
    out = copy.deepcopy(module)
    there = dict(out.named_parameters())
    for name in names or ():
        if name not in there:
            raise InputError(f"names holds {name!r}, but the parameters are {', '.join(there)}")
    if names is None:
        names = [
            name
            for name, value in there.items()
            if name.rpartition(".")[2] == "weight" and value.ndim >= 2 and not any(re.search(s, name) for s in skip)
        ]
    if not names:
        raise InputError(f"no weight is left to round: skip is {tuple(skip)}, the parameters are {', '.join(there)}")
    with torch.no_grad():
        for name in names:
            there[name].copy_(round_tensor(there[name], bits))
    return out, list(names)
