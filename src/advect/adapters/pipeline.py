"""A diffusers pipeline in memory as a Flow."""

from __future__ import annotations

import os
from typing import Any, Literal

from advect.adapters.codec import LatentCodec
from advect.adapters.families import Wish, family_of, plan, refuse_missing
from advect.adapters.field import PipelineField
from advect.adapters.grid import grid_of
from advect.adapters.prompts import Prompt, TextEncoder
from advect.conditions import Conditions
from advect.errors import InputError
from advect.flow import Flow
from advect.networks import NetSpec
from advect.sampler import Sampler
from advect.solvers import Euler
from advect.times import Grid


def from_pipeline(
    pipe: Any,
    height: int | None = None,
    width: int | None = None,
    frames: int | None = None,
    *,
    negative: str = "",
    guidance: float | None = None,
    max_tokens: int | None = None,
    steps: int | None = None,
    grid: Grid | None = None,
    posterior: Literal["mode", "sample"] = "mode",
    rows: int | None = 1,
) -> Flow:
    """A pipeline's transformer, autoencoder, text encoders and noise levels as a Flow; nothing is copied.

    The Flow samples pictures (or videos) in [-1, 1] with Euler on the pipeline's own noise levels, without guidance
    unless a rule is given, and is a prior for :func:`advect.inverse.restore`. The pipeline's parameters are frozen.

    Args:
        pipe: A StableDiffusion3Pipeline, FluxPipeline, WanPipeline or QwenImagePipeline.
        height: Of pictures, in pixels; None for the pipeline's own.
        width: Likewise.
        frames: Of videos; 1 more than a multiple of 4.
        negative: The text that guidance compares with where none is given with a prompt.
        guidance: The scale that a guidance-distilled transformer is told (FLUX.1-dev; 3.5 if None).
        max_tokens: Longest text in tokens; None for what the pipeline takes.
        steps: Steps of the grid; None for the pipeline's own number.
        grid: Another grid than the scheduler's.
        posterior: Whether pictures are encoded to the "mode" of the autoencoder's posterior or to a "sample".
        rows: Pictures that go through the autoencoder together; None for all.

    Raises:
        InputError: If the pipeline is of another class, or size, frames, guidance or scheduler do not fit it.
    """
    if isinstance(pipe, (str, os.PathLike)):
        raise InputError(f"pipe is the path {pipe}: advect.adapters.from_pretrained opens a folder")
    name = type(pipe).__name__
    family = family_of(name)
    refuse_missing(name, {part for part, value in pipe.components.items() if value is not None})
    wish = Wish(height, width, frames, guidance, max_tokens)
    backend, shape, state, tokens = plan(name, pipe.config, pipe.transformer.config, pipe.vae.config, wish)
    if grid is None:
        grid = grid_of(pipe.scheduler, family.steps if steps is None else steps, tokens, family.own_levels)
    elif steps is not None:
        grid = grid.with_steps(steps)
    prompt = Prompt(negative)
    encoders = [m for key, m in sorted(pipe.components.items()) if key.startswith("text_encoder") and m is not None]
    boundary = pipe.config.get("boundary_ratio")
    field = PipelineField(
        NetSpec(state, (prompt,)),
        pipe.transformer,
        backend,
        TextEncoder(lambda text: backend.encode(pipe, text), encoders),
        None if boundary is None else pipe.transformer_2,
        boundary,
    )
    return Flow(
        field,
        codec=LatentCodec(pipe.vae, backend.patch(pipe.transformer.config), family.frames, posterior, rows),
        # Texts were left out in training, so their null means something (of FLUX.1-dev before it was distilled).
        conditions=Conditions((prompt,), {prompt.name: 0.1}),
        sampler=Sampler(Euler(), grid),
        record={"pipeline": name, "shape": list(shape)},
    ).eval()
