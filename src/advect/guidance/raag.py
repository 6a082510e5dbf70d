r"""A guidance scale that follows the ratio of the gap between two predictions to the length of one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advect.errors import InputError
from advect.fields import Run, Step
from advect.guidance.base import Guidance
from advect.guidance.rules import extrapolate

Scope = Literal["sample", "batch"]


def guidance_ratio(v_c: Tensor, v_null: Tensor, scope: Scope = "sample") -> Tensor:
    r"""rho = |v_c - v_null| / (|v_null| + 1e-8), norms over all dimensions but the batch, in float32 at least.

    Args:
        v_c: Conditional velocity (B, *shape).
        v_null: Reference velocity, shape of v_c.
        scope: "sample" for a ratio per sample; "batch" for one ratio of the whole tensor, as in released code.

    Returns:
        Ratios (B,); with scope "batch" all the same.
    """
    # a half-precision sum of squares overflows on a video, and rounds away a small gap
    v_c, v_null = (v.float() if v.dtype in (torch.float16, torch.bfloat16) else v for v in (v_c, v_null))
    gap, reference = (v_c - v_null).flatten(1), v_null.flatten(1)
    if scope == "batch":
        whole = torch.linalg.vector_norm(gap) / (torch.linalg.vector_norm(reference) + 1e-8)
        return whole.expand(v_c.shape[0])
    return torch.linalg.vector_norm(gap, dim=1) / (torch.linalg.vector_norm(reference, dim=1) + 1e-8)


@dataclass(frozen=True)
class RAAG(Guidance):
    r"""v_null + w (v_c - v_null) with w = 1 + (w_max - 1) exp(-alpha rho) and rho = |v_c - v_null| / |v_null|.

    A large ratio, as in the first steps, is answered by a scale near 1; a small one by a scale near w_max. However
    large the ratio is, the push beyond the conditional velocity is bounded:
    |v - v_c| / |v_null| = (w - 1) rho <= (w_max - 1) / (e alpha), reached at rho = 1/alpha.

    What alpha does depends on the ratios of the model at hand: :class:`advect.fitting.FitRAAG` measures them and finds
    an alpha. Every call notes ratio and scale, (B,) each, under "guidance ratio" and "guidance scale" in ``Run.log``.

    Args:
        w_max: The scale where the two velocities agree, at least 1; 1 is plain sampling and costs no null pass. It
            takes the place of a guidance scale: there is no other.
        alpha: How fast the scale falls with the ratio, at least 0; 0 is plain guidance with the scale w_max (a port
            for video takes 0 for "switched off").
        scope: "sample": a ratio per sample, so that no sample depends on its batch. "batch": one ratio of the whole
            batch, as released.
        fitted_on: Hash of the weights that alpha was fitted on; None if it was chosen.
        measured: What alpha was fitted to, for the record: time, median and mean of the ratio by step.

    Raises:
        InputError: If w_max or alpha are out of range.

    Source: arXiv 2508.03442. The released code (Stable Diffusion 3.5: w_max 18, alpha 12, 10 steps) takes one norm over
    the batch, in the type of the model, and no 1e-8.
    """

    w_max: float = 18.0
    alpha: float = 12.0
    scope: Scope = "sample"
    fitted_on: str | None = None
    measured: tuple[tuple[float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (self.w_max >= 1 and math.isfinite(self.w_max)):
            raise InputError(f"w_max is {self.w_max}: the largest scale is at least 1, which is plain sampling")
        if not (self.alpha >= 0 and math.isfinite(self.alpha)):
            raise InputError(f"alpha is {self.alpha}: it is at least 0, where the scale is w_max throughout")
        if self.scope not in ("sample", "batch"):
            raise InputError(f"scope is {self.scope!r}: choose from sample, batch")

    def needs_null(self, t: float) -> bool:
        return self.w_max != 1.0

    def scale(self, ratio: Tensor) -> Tensor:
        """w of a ratio, of its shape."""
        return 1 + (self.w_max - 1) * torch.exp(-self.alpha * ratio)

    def __call__(self, v_c: Tensor, v_null: Tensor, step: Step | None, run: Run) -> Tensor:
        ratio = guidance_ratio(v_c, v_null, self.scope)
        scale = self.scale(ratio)
        run.note("guidance ratio", ratio)
        run.note("guidance scale", scale)
        return extrapolate(v_c, v_null, scale)
