"""Texts as a condition: a prompt and its negative travel as bytes, and are encoded once per trajectory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from advect.conditions import Condition, Enters
from advect.errors import InputError

Told = dict[str, Tensor]
"""What a transformer is told beside state and time, by the names of its own arguments; batch first."""


@dataclass(frozen=True)
class Prompt(Condition):
    """A text per sample and the negative text that guidance compares with, as uint8 (B, 2 size): their UTF-8 bytes.

    So a text is a tensor like every other condition: rows of a batch are taken, joined and repeated without knowing
    what they are, and a guided pair is one batch whatever the lengths of the two texts. The null of a prompt is its
    negative.

    Args:
        negative: The negative text where none is given with the prompt.
        size: Longest text in bytes; text encoders cut far earlier (a token is about four bytes).
        name: Name in `Flow.sample(name=...)`.
    """

    negative: str = ""
    size: int = 4096
    name: str = "prompt"

    @property
    def enters(self) -> Enters:
        return "token"

    @property
    def width(self) -> int:
        return 2 * self.size

    @property
    def discrete(self) -> bool:
        return False

    def read(self, value: Any, negative: str | None = None) -> Tensor:
        """A text as (2 size,), or a list of n texts as (n, 2 size); bytes that were read before stay as they are.

        Args:
            value: A text, a list of texts (one per sample), or bytes.
            negative: Their negative; None for that of the condition.

        Raises:
            InputError: If it is no text, or one is too long.
        """
        if isinstance(value, Tensor):
            return value
        texts = value if isinstance(value, (list, tuple)) else [value]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{self.name} is {value!r}: give a text for all samples, or a list of one text each")
        other = self._bytes(self.negative if negative is None else negative)
        out = torch.stack([torch.cat([self._bytes(text), other]) for text in texts])
        return out if isinstance(value, (list, tuple)) else out[0]

    def texts(self, value: Tensor) -> list[str]:
        """The texts of bytes (B, 2 size), without their negatives."""
        return [bytes(row).rstrip(b"\0").decode() for row in value[:, : self.size].cpu().numpy()]

    def null(self, like: Tensor) -> Tensor:
        """The negatives in the place of the texts; where `like` is no bytes, the condition's own negative."""
        if like.dtype == torch.uint8:
            other = like[:, self.size :]
            return torch.cat([other, other], 1)
        other = self._bytes(self.negative)
        return torch.cat([other, other]).to(like.device).expand(like.shape[0], -1)

    def check(self, value: Tensor) -> Tensor:
        if value.dtype != torch.uint8 or value.ndim != 2 or value.shape[1] != self.width:
            raise InputError(
                f"{self.name} is a tensor {value.dtype} {tuple(value.shape)}, and the bytes of texts are uint8 "
                f"(B, {self.width}): give texts, or what `flow.network.tell` makes of them"
            )
        return value

    def _bytes(self, text: str) -> Tensor:
        if not isinstance(text, str) or "\0" in text:
            raise InputError(f"{self.name} is told {text!r}: give a text without zero bytes")
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:  # bytes of a terminal that are no UTF-8
            raise InputError(f"{self.name} is told {text!r}, which is no text in UTF-8: {error.reason}") from error
        if len(encoded) > self.size:
            raise InputError(f"{self.name} has a text of {len(encoded)} bytes, above {self.size}: shorten it")
        return torch.frombuffer(bytearray(encoded.ljust(self.size, b"\0")), dtype=torch.uint8)


class TextEncoder:
    """A pipeline's text encoders, each text encoded once, alone, without gradients, and remembered.

    Args:
        encode: Gives what the transformer is told of one text, each tensor (1, ...).
        modules: The encoders behind it, which move along with the field; they are frozen in place.
        remembered: How many texts are kept.
    """

    def __init__(self, encode: Callable[[str], Told], modules: list[torch.nn.Module], remembered: int = 64) -> None:
        self.encode, self.remembered = encode, remembered
        self.modules = [module.requires_grad_(False).eval() for module in modules]
        self.known: dict[str, Told] = {}

    def __call__(self, texts: list[str]) -> Told:
        """What the transformer is told of these texts (B, ...); token sequences are padded with zeros and masked."""
        known = [self._one(text) for text in texts]
        out: Told = {}
        for name in known[0]:
            rows = [told[name] for told in known]
            longest = max(row.shape[1] for row in rows)
            out[name] = torch.cat([_padded(row, longest) for row in rows])
        mask = out.get("encoder_hidden_states_mask")
        if mask is not None and bool(mask.all()):  # as the pipelines have it: nothing is padded, so no mask
            del out["encoder_hidden_states_mask"]
        return out

    def _one(self, text: str) -> Told:
        if text not in self.known:
            if len(self.known) >= self.remembered:
                del self.known[next(iter(self.known))]
            with torch.no_grad():
                self.known[text] = self.encode(text)
        return self.known[text]


def _padded(row: Tensor, length: int) -> Tensor:
    """Zeros after the tokens of (1, L, ...); pooled vectors have all the same length."""
    missing = length - row.shape[1]
    return row if missing == 0 else F.pad(row, (0, 0) * (row.ndim - 2) + (0, missing))
