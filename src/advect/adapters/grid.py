r"""The noise levels at which published flow pipelines are sampled, as a grid in library time t = 1 - sigma."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from advect.errors import InputError
from advect.times import Grid

if TYPE_CHECKING:
    from advect.interpolants import AffineInterpolant


@dataclass(frozen=True)
class SchedulerGrid(Grid):
    r"""Equal steps in a base level s from 1 to `least`, shifted, stretched to `terminal`, and a last step to the data.

    sigma = shift s / (1 + (shift - 1) s);  1 - sigma <- (1 - sigma) (1 - terminal) / (1 - sigma_last);  t = 1 - sigma.

    `least=0` without the last level is :class:`~advect.times.ShiftedGrid`, which FLUX and Qwen-Image take with a
    shift by the picture's size.

    Args:
        steps: Number of steps.
        shift: Above 0; above 1 more steps are taken near the noise.
        least: The base level at which equal steps end, in [0, 1).
        inclusive: Whether `least` itself is the last level before the data; else the steps stop one short of it.
        terminal: The last level before the data after stretching; None for no stretching.

    Raises:
        InputError: If the levels do not fall all the way to 0.

    Source: arXiv 2403.03206 section 5.3.2 for the shift. diffusers' FlowMatchEulerDiscreteScheduler stores its least
    level after one shift and shifts it again (0.00893 for 0.001 shifted by 3 twice): that is `least=0.002994,
    inclusive=True` here.
    """

    steps: int = 28
    shift: float = 3.0
    least: float = 0.0
    inclusive: bool = False
    terminal: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or (self.terminal is not None and self.steps < 2):
            raise InputError(f"steps is {self.steps}: at least 1, and 2 where the last level is stretched to")
        if not (math.isfinite(self.shift) and self.shift > 0):
            raise InputError(f"shift is {self.shift}: a time shift is above 0")
        if not (0 <= self.least < 1) or (self.inclusive and self.least == 0):
            raise InputError(f"least is {self.least}: it lies in [0, 1), above 0 where it is a level itself")
        if self.terminal is not None and not 0 < self.terminal < 1:
            raise InputError(f"terminal is {self.terminal}: the last level before the data lies between 0 and 1")

    def levels(self) -> list[float]:
        """The share of noise sigma at each node, from 1 to 0."""
        gaps = max(self.steps - 1, 1) if self.inclusive else self.steps
        base = [1 + (self.least - 1) * i / gaps for i in range(self.steps)]
        out = [self.shift * s / (1 + (self.shift - 1) * s) for s in base]
        if self.terminal is not None:
            scale = (1 - self.terminal) / (1 - out[-1])
            out = [1 - (1 - sigma) * scale for sigma in out]
        return [*out, 0.0]

    def times(self, interpolant: AffineInterpolant | None = None) -> list[float]:
        return [1 - sigma for sigma in self.levels()]


def dynamic_shift(tokens: int, config: Any, most: float = 1.15) -> float:
    r"""The shift by the picture's size: e^mu (or mu itself), mu linear in the number of tokens, 256 to 4096 by default.

    Args:
        tokens: Number of tokens the transformer sees.
        config: The scheduler's configuration, a mapping.
        most: mu at the larger number, where the configuration has none.
    """
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", most)
    mu = low + (high - low) * (tokens - few) / (many - few)
    return mu if config.get("time_shift_type", "exponential") == "linear" else math.exp(mu)


def grid_of(scheduler: Any, steps: int, tokens: int, own_levels: bool) -> SchedulerGrid:
    """The grid of a pipeline's scheduler.

    Args:
        scheduler: A flow-matching Euler scheduler of diffusers, or a multistep one with ``use_flow_sigmas``.
        steps: Number of steps.
        tokens: Number of tokens the transformer sees.
        own_levels: Whether the pipeline hands base levels 1 to 1/steps to its scheduler (FLUX, Qwen-Image), or leaves
            them to it.

    Raises:
        InputError: If the scheduler is of another kind.
    """
    config = scheduler.config
    name = type(scheduler).__name__
    euler = name == "FlowMatchEulerDiscreteScheduler"
    for flag in ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas"):
        if config.get(flag):
            raise InputError(f"the scheduler has {flag}, which is not read: pass grid=, such as ShiftedGrid(28, 3.0)")
    if not euler and not config.get("use_flow_sigmas"):
        raise InputError(
            f"the scheduler is {name}, whose noise levels are not those of a flow: set "
            "pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0), or pass grid="
        )
    dynamic = config.get("use_dynamic_shifting", False)
    shift = dynamic_shift(tokens, config) if dynamic else float(scheduler.shift if euler else config["flow_shift"])
    terminal = config.get("shift_terminal") or None
    if own_levels:
        return SchedulerGrid(steps, shift, terminal=terminal)
    if euler:
        return SchedulerGrid(steps, shift, float(scheduler.sigma_min), True, terminal)
    return SchedulerGrid(steps, shift, 1 / config["num_train_timesteps"], False, terminal)
