"""A diffusers pipeline, in memory or in a folder, as a Flow."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from advect.adapters.backends import SD3, Backend, Flux, QwenImage, Wan
from advect.adapters.codec import Frames, LatentCodec
from advect.adapters.field import PipelineField
from advect.adapters.grid import grid_of
from advect.adapters.prompts import Prompt, TextEncoder
from advect.conditions import Conditions
from advect.errors import InputError, require
from advect.files import read_json
from advect.flow import Flow
from advect.networks import NetSpec
from advect.sampler import Sampler
from advect.saving import load_fitted
from advect.solvers import Euler
from advect.times import Grid


class Family(NamedTuple):
    """What is known of a pipeline class."""

    backend: type[Backend]
    frames: Frames
    own_levels: bool
    steps: int
    size: tuple[int, int, int | None]


FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FAMILIES = {
    "StableDiffusion3Pipeline": Family(SD3, "none", False, 28, (1024, 1024, None)),
    "FluxPipeline": Family(Flux, "none", True, 28, (1024, 1024, None)),
    "WanPipeline": Family(Wan, "many", False, 50, (480, 832, 81)),
    "QwenImagePipeline": Family(QwenImage, "one", True, 50, (1024, 1024, None)),
}


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
    posterior: str = "mode",
    rows: int | None = 8,
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
        rows: Pictures that go through the autoencoder together.

    Raises:
        InputError: If the pipeline is of another class, or size, frames, guidance or scheduler do not fit it.
    """
    name = type(pipe).__name__
    family = _family(name)
    transformer = getattr(pipe, "transformer", None)
    if transformer is None or getattr(pipe, "vae", None) is None:
        raise InputError(f"the {name} has no {'transformer' if transformer is None else 'vae'}: load it with all parts")
    backend = _backend(family, pipe, guidance, max_tokens)
    shape = _shape(family, pipe, height, width, frames)
    factor = getattr(pipe, "vae_scale_factor", None) or pipe.vae_scale_factor_spatial
    codec = LatentCodec(
        pipe.vae,
        factor,
        backend.patch(transformer),
        family.frames,
        getattr(pipe, "vae_scale_factor_temporal", 4),
        posterior,  # pyright: ignore[reportArgumentType]
        rows,
    )
    state = codec.latent_shape(shape)
    _refuse_large(transformer, state, factor)
    if state[0] != backend.channels(transformer):
        raise InputError(
            f"the autoencoder gives {state[0]} channels and the transformer takes {backend.channels(transformer)}: "
            "they belong to different pipelines"
        )
    tokens = 1
    for side, block in zip(state[-2:], backend.patch(transformer), strict=True):
        tokens *= side // block
    if grid is None:
        grid = grid_of(pipe.scheduler, family.steps if steps is None else steps, tokens, family.own_levels)
    elif steps is not None:
        grid = grid.with_steps(steps)
    prompt = Prompt(negative)
    encoders = [m for key, m in sorted(pipe.components.items()) if key.startswith("text_encoder") and m is not None]
    boundary = pipe.config.get("boundary_ratio")
    field = PipelineField(
        NetSpec(state, (prompt,)),
        transformer,
        backend,
        TextEncoder(lambda text: backend.encode(pipe, text), encoders),
        None if boundary is None else pipe.transformer_2,
        boundary,
    )
    return Flow(
        field,
        codec=codec,
        conditions=Conditions((prompt,), {prompt.name: 0.1}),  # all four were trained with texts left out
        sampler=Sampler(Euler(), grid),
        record={"pipeline": name, "shape": list(shape)},
    ).eval()


def from_pretrained(folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **options: Any) -> Flow:
    """Open a diffusers folder (one with a ``model_index.json``) as a Flow; only local safetensors files are read.

    Parts that ``advect calibrate`` found for it and wrote into ``fitted/`` come along.

    Args:
        folder: What ``pipe.save_pretrained`` or a download left.
        dtype: The type of all weights; None for the one each part is stored in. States are float32 in any case.
        options: As in :func:`from_pipeline`.

    Raises:
        InputError: If the folder is no pipeline of the four, names code outside diffusers and transformers, or its
            weights are not there as safetensors.
    """
    folder = Path(folder)
    index = folder / "model_index.json"
    if not index.is_file():
        raise InputError(
            f"{folder} has no model_index.json: give the folder of a diffusers pipeline; none is downloaded"
        )
    described = read_json(index)
    name = str(described.get("_class_name")) if isinstance(described, dict) else "None"
    _family(name)
    for part, value in described.items():
        library = value[0] if isinstance(value, list) and value else None
        if library not in (None, "diffusers", "transformers"):
            raise InputError(
                f"{index} takes its {part} from {library}: only parts of diffusers and transformers are run"
            )
    diffusers = require("diffusers", "diffusers", "a diffusers pipeline")
    types = _stored_types(folder) if dtype is None else dtype
    try:
        with _without_bars("diffusers", "transformers"):
            pipe = getattr(diffusers, name).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=types
            )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder} cannot be read as a {name} of safetensors files: {reason}") from error
    flow = from_pipeline(pipe, **options)
    for path in sorted(folder.glob("fitted/*/part.json")):
        flow.fitted[path.parent.name] = load_fitted(folder, path.parent.name)
    return flow


@contextlib.contextmanager
def _without_bars(*libraries: str) -> Iterator[None]:
    """Progress bars of these libraries switched off, and on again where they were on."""
    logs = [require(f"{library}.utils.logging", "diffusers", "a diffusers pipeline") for library in libraries]
    shown = [log for log in logs if log.is_progress_bar_enabled()]
    try:
        for log in shown:
            log.disable_progress_bar()
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


def _stored_types(folder: Path) -> dict[str, torch.dtype]:
    """The type of the first tensor of each part's weights."""
    out: dict[str, torch.dtype] = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        found = next(
            (FLOATS[v["dtype"]] for k, v in header.items() if k != "__metadata__" and v["dtype"] in FLOATS), None
        )
        if found is not None:
            out.setdefault(path.parent.name, found)
    return {"default": torch.float32} | out


def is_pipeline(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a diffusers pipeline."""
    return (Path(folder) / "model_index.json").is_file()


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise InputError(f"the pipeline is a {name}, and those that are a field here are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def _backend(family: Family, pipe: Any, guidance: float | None, max_tokens: int | None) -> Backend:
    options: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
    embeds = bool(pipe.transformer.config.get("guidance_embeds", False))
    if family.backend is Wan:
        options["per_token"] = bool(pipe.config.get("expand_timesteps"))
    if family.backend is QwenImage and embeds:
        raise InputError("this Qwen-Image transformer wants an embedded guidance scale, which diffusers does not feed")
    if guidance is not None:
        if not embeds:
            raise InputError(
                f"guidance is {guidance}, but this transformer is told no scale: guide the flow with a rule, "
                f"flow.sample(..., guidance=CFG({guidance:g}))"
            )
        options["guidance"] = guidance
    return family.backend(**options)


def _shape(family: Family, pipe: Any, height: int | None, width: int | None, frames: int | None) -> tuple[int, ...]:
    """Shape of one picture or video."""
    if family.frames != "many" and frames is not None:
        raise InputError(f"frames is {frames}, but a {type(pipe).__name__} makes pictures: leave it out")
    own_height, own_width, own_frames = family.size
    if (sample := getattr(pipe, "default_sample_size", None)) is not None:
        own_height = own_width = sample * pipe.vae_scale_factor
    sides = (own_height if height is None else height, own_width if width is None else width)
    if min(sides) < 1 or (frames is not None and frames < 1):
        raise InputError(f"height, width and frames are {sides[0]}, {sides[1]} and {frames}: all are at least 1")
    if family.frames != "many":
        return (3, *sides)
    return (3, own_frames if frames is None else frames, *sides)  # pyright: ignore[reportReturnType]


def _refuse_large(transformer: Any, state: tuple[int, ...], factor: int) -> None:
    """SD3's table of places has an end; the others' are computed."""
    most = transformer.config.get("pos_embed_max_size")
    if most is None:
        return
    patch = transformer.config.patch_size
    if max(state[-2:]) // patch > most:
        raise InputError(
            f"height and width are {state[-2] * factor} and {state[-1] * factor}, above {most * patch * factor}, the "
            "largest side that this transformer has places for: make smaller pictures"
        )
