"""A rule that gives each token the length it has in the conditional prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, Step
from advect.guidance.base import Guidance, Rule, Space
from advect.guidance.rules import CFG


@dataclass(frozen=True)
class TokenRescale(Guidance):
    r"""out |v_c| / |out| token by token, where out is what another rule gives: the direction guided, the length not.

    A token is all channels (axis 1) of a `patch` x `patch` block of the last two axes; a state without two such axes
    has one token per place behind the channels.

    Args:
        rule: The rule, usually CFG.
        patch: Side of a token's block, at least 1; the transformer of Qwen-Image sees blocks of 2.

    Source: the guidance of diffusers' QwenImagePipeline, on its packed tokens. There a token whose guided prediction is
    zero is not a number; here it stays zero.
    """

    rule: Guidance = CFG(4.0)
    patch: int = 2

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise InputError(f"patch is {self.patch}: the side of a token's block is at least 1")
        if self.rule.acts_on not in ("any", "v"):
            raise InputError(
                f"rule is {type(self.rule).__name__}, which acts on {self.rule.acts_on}, and lengths are compared in "
                "the velocity: take CFG"
            )

    @property
    def acts_on(self) -> Space:
        return "v"

    @property
    def against(self) -> Literal["null", "weak"]:
        return self.rule.against

    def needs_null(self, t: float) -> bool:
        return self.rule.needs_null(t)

    def mask(self, t: Tensor) -> Tensor | None:
        return self.rule.mask(t)

    def begin(self) -> Rule:
        inner = self.rule.begin()
        return lambda v_c, v_null, step, run: self._rescaled(v_c, inner(v_c, v_null, step, run))

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        return self._rescaled(v_c, self.rule(v_c, v_null, step, run))

    def _rescaled(self, v_c: Tensor, out: Tensor) -> Tensor:
        wanted, has = self._length(v_c), self._length(out)
        still = has == 0
        ratio = torch.where(still, 1.0, wanted / torch.where(still, 1.0, has))  # no 0/0, in the gradient neither
        return out * ratio.to(out.dtype)

    def _length(self, v: Tensor) -> Tensor:
        """The length of each place's token, broadcastable against v."""
        kind = torch.promote_types(v.dtype, torch.float32)
        length = torch.linalg.vector_norm(v, dim=1, keepdim=True, dtype=kind)
        if self.patch == 1 or v.ndim < 4:
            return length
        *lead, height, width = length.shape
        if height % self.patch or width % self.patch:
            raise InputError(f"patch is {self.patch}, which does not divide the state's {height}x{width}: set patch=1")
        blocks = length.reshape(*lead, height // self.patch, self.patch, width // self.patch, self.patch)
        whole = torch.linalg.vector_norm(blocks, dim=(-3, -1), keepdim=True)
        return whole.expand(blocks.shape).reshape(length.shape)
