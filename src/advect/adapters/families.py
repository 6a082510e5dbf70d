"""What is known of each pipeline class, and whether a wish fits it: asked of configurations, before weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from advect.adapters.backends import SD3, Backend, Flux, QwenImage, Wan
from advect.adapters.layout import Frames, Layout
from advect.errors import InputError


class Family(NamedTuple):
    """One pipeline class.

    Attributes:
        backend: How its transformer is called.
        frames: What its autoencoder is given.
        own_levels: Whether it hands noise levels 1 to 1/steps to its scheduler, or leaves them to it.
        steps: Its own number of steps.
        encoders: How many of its text encoders it cannot do without (SD3's third may be left out).
    """

    backend: type[Backend]
    frames: Frames
    own_levels: bool
    steps: int
    encoders: int


FAMILIES = {
    "StableDiffusion3Pipeline": Family(SD3, "none", False, 28, 2),
    "FluxPipeline": Family(Flux, "none", True, 28, 2),
    "WanPipeline": Family(Wan, "many", False, 50, 1),
    "QwenImagePipeline": Family(QwenImage, "one", True, 50, 1),
}


def family_of(name: str) -> Family:
    """The family of a pipeline class by its name."""
    if name not in FAMILIES:
        raise InputError(f"the pipeline is a {name}, and those that are a field here are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def refuse_missing(name: str, parts: Collection[str]) -> None:
    """Refuse a pipeline of the class `name` that has these parts only, where it needs more."""
    ends = ["", *(f"_{i}" for i in range(2, 1 + family_of(name).encoders))]
    for part in ("transformer", "vae", *(f"{kind}{end}" for end in ends for kind in ("text_encoder", "tokenizer"))):
        if part not in parts:
            raise InputError(f"the {name} has no {part}: load it with all parts")


@dataclass(frozen=True)
class Wish:
    """What a user says of a pipeline's pictures; None for the pipeline's own.

    Args:
        height: In pixels.
        width: In pixels.
        frames: Of videos.
        guidance: The scale that a guidance-distilled transformer is told.
        max_tokens: Longest text.
    """

    height: int | None = None
    width: int | None = None
    frames: int | None = None
    guidance: float | None = None
    max_tokens: int | None = None


class Plan(NamedTuple):
    """A backend, and the shapes without batch of the data and of their states."""

    backend: Backend
    shape: tuple[int, ...]
    state: tuple[int, ...]
    tokens: int


def plan(
    name: str, pipe: Mapping[str, Any], transformer: Mapping[str, Any], vae: Mapping[str, Any], wish: Wish
) -> Plan:
    """What a pipeline makes.

    Args:
        name: Its class.
        pipe: Its configuration; likewise `transformer`, `vae`.
        transformer: Of its (first) transformer.
        vae: Of its autoencoder.
        wish: What it is to make.

    Raises:
        InputError: If it cannot.
    """
    family = family_of(name)
    backend = _backend(family, pipe, transformer, wish)
    layout = Layout.of(vae, backend.patch(transformer), family.frames)
    shape = _shape(name, family, transformer, layout, wish)
    state = layout.state(shape)
    most, (patch, _) = transformer.get("pos_embed_max_size"), layout.patch
    if most is not None and max(state[-2:]) // patch > most:
        raise InputError(
            f"height and width are {shape[-2]} and {shape[-1]}, above {most * patch * layout.factor}, the largest side "
            "that this transformer has places for: make smaller pictures"
        )
    if state[0] != (channels := backend.channels(transformer)):
        raise InputError(
            f"the autoencoder gives {state[0]} channels and the transformer takes {channels}: they belong to different "
            "pipelines"
        )
    return Plan(backend, shape, state, layout.tokens(shape))


def _backend(family: Family, pipe: Mapping[str, Any], transformer: Mapping[str, Any], wish: Wish) -> Backend:
    options: dict[str, Any] = {} if wish.max_tokens is None else {"max_tokens": wish.max_tokens}
    embeds = bool(transformer.get("guidance_embeds"))
    if family.backend is Wan:
        options["per_token"] = bool(pipe.get("expand_timesteps"))
    if family.backend is QwenImage and embeds:
        raise InputError("this Qwen-Image transformer wants an embedded guidance scale, which diffusers does not feed")
    if wish.guidance is not None:
        if not embeds:
            raise InputError(
                f"guidance is {wish.guidance}, but this transformer is told no scale: guide the flow with a rule, "
                f"flow.sample(..., guidance=CFG({wish.guidance:g}))"
            )
        options["guidance"] = wish.guidance
    return family.backend(**options)


def _shape(name: str, family: Family, transformer: Mapping[str, Any], layout: Layout, wish: Wish) -> tuple[int, ...]:
    """Shape of one picture or video."""
    if family.frames == "many":
        height, width = 480, 832
    else:
        height = width = (transformer.get("sample_size") or 128) * layout.factor
        if wish.frames is not None:
            raise InputError(f"frames is {wish.frames}, but a {name} makes pictures: leave it out")
    sides = (height if wish.height is None else wish.height, width if wish.width is None else wish.width)
    return (3, *sides) if family.frames != "many" else (3, 81 if wish.frames is None else wish.frames, *sides)
