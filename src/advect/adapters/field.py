r"""The transformer of a diffusers pipeline as a field: library time, unpacked float32 states, v = data - noise."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from advect.adapters.backends import Backend
from advect.adapters.prompts import Prompt, TextEncoder, Told
from advect.broadcasting import per_sample_time
from advect.errors import InputError
from advect.fields import Run, Step
from advect.networks import NetSpec, Network
from advect.parts import class_path


class PipelineField(Network):
    r"""v(x, t) = -transformer(x, time(t)) on states (B, C, h, w), or videos (B, C, F, h, w), with t=0 the noise.

    Time conversion, sign, packing, places of tokens and the embedded guidance scale live in the backend; the cast to
    the transformer's type, and back, here. The parameters are frozen; a gradient with respect to x passes.

    It is told either ``prompt`` (texts, see :class:`Prompt`; encoded once per trajectory) or the transformer's own
    tensors by their names (``encoder_hidden_states``, ...). Guidance is not in here: the pipeline's is
    :class:`~advect.guidance.CFG` against the negative prompt.

    Args:
        spec: Shape of one state, and the conditions: a :class:`Prompt`, if there are text encoders.
        transformer: A transformer of diffusers; its parameters are frozen in place.
        backend: How it is called.
        texts: The text encoders; None where the transformer's own tensors are given.
        low_noise: The second expert of Wan 2.2, for times after the boundary.
        boundary: The share of noise down to which `transformer` is asked, and below which `low_noise` is.

    Raises:
        InputError: If a time has neither shape () nor (B,), the state does not fit the transformer, or a tensor it
            needs is missing.

    Where diffusers differs: FLUX and Qwen-Image pipelines round the time to the transformer's type before they divide
    it by 1000; here it reaches the transformer in float32 and is rounded once.
    """

    def __init__(
        self,
        spec: NetSpec,
        transformer: nn.Module,
        backend: Backend,
        texts: TextEncoder | None = None,
        low_noise: nn.Module | None = None,
        boundary: float | None = None,
    ) -> None:
        super().__init__(spec)
        if (low_noise is None) != (boundary is None):
            raise InputError(f"boundary is {boundary}, which goes with a second transformer: give both or none")
        self.transformer = transformer.requires_grad_(False).eval()
        self.low_noise = None if low_noise is None else low_noise.requires_grad_(False).eval()
        self.backend, self.boundary = backend, boundary
        self._texts = (texts,)  # in a tuple: lent by the pipeline, they move along but are not this network's weights

    def init_args(self) -> dict[str, Any]:
        """What it is made of, in plain values; the transformers are named, not described."""
        return {
            "spec": self.spec,
            "transformer": class_path(type(self.transformer)),
            "backend": self.backend,
            "low_noise": None if self.low_noise is None else class_path(type(self.low_noise)),
            "boundary": self.boundary,
        }

    @property
    def save_refusal(self) -> str:
        """Why a flow with this network is not written: its weights are the pipeline's."""
        return (
            "a flow made of a diffusers pipeline is not saved, its weights belong to the pipeline: write that with "
            "pipe.save_pretrained(folder), and open the folder with advect.adapters.from_pretrained"
        )

    def tell(self, prompt: str | list[str], negative: str | None = None) -> dict[str, Tensor]:
        """The condition of these texts, for ``flow.sample(4, **flow.network.tell("a red cube", negative="blurry"))``.

        Args:
            prompt: One text for all samples, or a list of one each.
            negative: What guidance compares with; None for the flow's own negative.
        """
        for item in self.spec.conditions:
            if isinstance(item, Prompt):
                return {item.name: item.read(prompt, negative)}
        raise InputError("this field has no text encoders: give the transformer's own tensors as conditions")

    def forward(self, x: Tensor, *times: Tensor | float, features: tuple[str, ...] = (), **cond: Any) -> Tensor:
        """The velocity at states x and one time t, () or (B,); shape and type of x."""
        self._check_features(features)
        (t,) = times
        return self.velocity_of(x, t, self.told(cond, x))

    def bind(self, run: Run, role: str = "model", **cond: Any) -> BoundPipelineField:
        """Fix the conditions of one trajectory: texts are encoded here, once."""
        return BoundPipelineField(self, run, role, cond)

    def told(self, cond: dict[str, Any], like: Tensor) -> Told:
        """What the transformer is told: texts encoded, on the device of `like`, floats in the transformer's type."""
        told = dict(cond)
        for item in self.spec.conditions:
            if isinstance(item, Prompt) and item.name in told:
                encoder = self._texts[0]
                if encoder is None:
                    raise InputError(f"{item.name} is given, but there are no text encoders to read it")
                told |= encoder(item.texts(item.check(told.pop(item.name))))
        self.backend.check(told)
        out = {name: value.to(like.device) for name, value in told.items()}
        return {name: v.to(self.dtype) if v.is_floating_point() else v for name, v in out.items()}

    def velocity_of(self, x: Tensor, t: Tensor | float, told: Told) -> Tensor:
        """The velocity, for what :meth:`told` gives."""
        self._check_state(x)
        if self.low_noise is None or self.boundary is None:
            return self._ask(self.transformer, x, t, told)
        # A share of noise on the boundary is the first transformer's; t in float32 may miss it by a rounding.
        late = 1 - self.boundary + 1e-6
        if not isinstance(t, Tensor) or t.ndim == 0:
            return self._ask(self.low_noise if float(t) > late else self.transformer, x, t, told)
        t = _times(t, x)
        low = t > late
        out = torch.empty_like(x)
        for expert, rows in ((self.transformer, ~low), (self.low_noise, low)):
            if bool(rows.any()):
                part = {name: value[rows] for name, value in told.items()}
                out[rows] = self._ask(expert, x[rows], t[rows], part)
        return out

    def _ask(self, transformer: nn.Module, x: Tensor, t: Tensor | float, told: Told) -> Tensor:
        return self.backend.velocity(transformer, x.to(self.dtype), _times(t, x), told).to(x)

    def _check_state(self, x: Tensor) -> None:
        config: Any = self.transformer.config
        channels, patch = self.backend.channels(config), self.backend.patch(config)
        sides = [side % block for side, block in zip(x.shape[-2:], patch, strict=True)]
        if x.ndim != 1 + len(self.spec.shape) or x.shape[1] != channels or any(sides):
            raise InputError(
                f"x has shape {tuple(x.shape)}, and {type(self.backend).__name__} takes states (B, {channels}, "
                f"{'F, ' if len(self.spec.shape) == 4 else ''}h, w) with h and w multiples of {patch[0]} and {patch[1]}"
            )

    @property
    def dtype(self) -> torch.dtype:
        """The type the transformer computes in."""
        own = getattr(self.transformer, "dtype", None)
        return own if isinstance(own, torch.dtype) else next(self.transformer.parameters()).dtype

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        if self._texts[0] is not None:
            self._texts[0].known.clear()  # what encoders of another type or device said
            for module in self._texts[0].modules:
                module._apply(fn)
        return super()._apply(fn, recurse)


def _times(t: Tensor | float, x: Tensor) -> Tensor:
    """Times (B,) in float32 or float64, also where states are carried in less: half precision would move them."""
    wide = x.new_empty(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))
    return per_sample_time(t, wide)


class BoundPipelineField:
    """One trajectory of a :class:`PipelineField`; to be thrown away after it."""

    is_bound = True

    def __init__(self, field: PipelineField, run: Run, role: str, cond: dict[str, Any]) -> None:
        self.field, self.run, self.role, self.cond = field, run, role, cond
        self._told: Told | None = None

    def __call__(self, x: Tensor, t: Tensor | float, step: Step | None = None) -> Tensor:
        if self._told is None:
            self._told = self.field.told(self.cond, x)
        self.run.count(self.role, x.shape[0])
        return self.field.velocity_of(x, t, self._told)
