"""What a flow is: networks by role with the transport they were trained on, told their conditions and guidance.

Convention: t=0 is the source, t=1 the data, v = dx/dt, batch first.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from advect.codecs import Codec, Identity
from advect.conditions import Conditions
from advect.errors import InputError
from advect.fields import Kind, Run, bind, kind_of
from advect.files import hash_tensors
from advect.networks import Network
from advect.parts import Part, config_of, modules_in
from advect.sampler import Sampler
from advect.solvers import Context
from advect.transport import Transport

if TYPE_CHECKING:
    from advect.guidance import Guidance
    from advect.sources import Source


class FlowBase(nn.Module):
    """What a :class:`~advect.flow.Flow` is before anything is drawn from it; its arguments are listed there."""

    def __init__(
        self,
        network: Callable[..., Any],
        transport: Transport | None = None,
        codec: Codec | None = None,
        conditions: Conditions | None = None,
        sampler: Sampler | None = None,
        shape: tuple[int, ...] | None = None,
        others: Mapping[str, nn.Module] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if transport is not None and not isinstance(transport, Transport):
            raise InputError(f"transport is {transport}, which is no Transport: a shape is given as shape=(2,)")
        self.network = network
        self.others = nn.ModuleDict(dict(others or {}))
        self.transport = Transport() if transport is None else transport
        self.codec: Codec = Identity() if codec is None else codec
        spec = getattr(network, "spec", None)
        if conditions is None:
            conditions = Conditions(tuple(spec.conditions)) if spec is not None else Conditions()
        self.conditions = conditions
        self.sampler = Sampler.for_kind(self.kind, self.transport.interpolant) if sampler is None else sampler
        if shape is None and spec is None:
            raise InputError("shape is not given and the network has no `spec`: pass shape=(2,) or the like")
        self.shape: tuple[int, ...] = tuple(shape if shape is not None else spec.shape)  # pyright: ignore
        self.record: dict[str, Any] = dict(record or {})
        self.fitted: dict[str, Part] = {}
        self._weak: tuple[Any, ...] = ()  # in a tuple: not a network of this flow, not saved, not hashed
        self._cast: tuple[str, str] | None = None  # hash of the weights as they were cast, and before it

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weight = next(self.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type states are carried in: float64 if the weights are, else float32."""
        weight = next(self.parameters(), None)
        return torch.float64 if weight is not None and weight.dtype == torch.float64 else torch.float32

    @property
    def kind(self) -> Kind:
        """What the model is: "field", "flow map" or "kernel"."""
        return kind_of(self.network)

    @property
    def score_refusal(self) -> str | None:
        """None if the velocity gives a score; else the sentence that says why it does not."""
        return self.transport.score_refusal

    def bind(
        self, run: Run | None = None, *, role: str = "model", guidance: tuple[Guidance, ...] = (), **cond: Any
    ) -> Callable[..., Any]:
        """The network of a role with conditions (tensors, batch first) and guidance fixed, as one callable field."""
        return bind(self.field(role, guidance), run, role=role, **cond)

    def field(self, role: str = "model", guidance: tuple[Guidance, ...] = ()) -> Callable[..., Any]:
        """The network of a role under guidance: a field ``f(x, t, **cond)``, still without conditions."""
        network: Any = self.network if role == "model" else self.others[role]
        if not guidance:
            return network
        from advect.guidance import Guided, GuidedKernel

        if self.conditions.items and not self.conditions.null_is_trained:
            for rule in guidance:
                if rule.against == "null" and any(rule.needs_null(k / 64) for k in range(65)):
                    names = ",".join(item.name for item in self.conditions.items)
                    raise InputError(
                        f"{type(rule).__name__} compares with the null condition, but this flow was trained without "
                        f"dropping {names}: train with drop={{'{names}': 0.1}}, or take AutoGuidance and a weaker flow"
                    )
        if kind_of(network) == "kernel":
            return GuidedKernel(network, guidance, self.conditions)  # pyright: ignore[reportReturnType]
        weak = self._weak[0] if self._weak else dict(self.others).get("weak")
        return Guided(network, guidance, self.conditions, weak=weak, interpolant=self.transport.interpolant)

    def check(self, sampler: Sampler) -> None:
        """Refuse a sampler that this flow cannot be sampled with, before anything is drawn or written."""
        sampler.check(self.kind, self.weights_hash)
        self.field(guidance=sampler.guidance)
        source, trained = sampler.source, self.transport.source
        # from a Gaussian other starts are tried on purpose, and a source that reads the data serves training alone
        apart = trained.gaussian is None and not trained.needs_x1
        if source is not None and apart and not source.stands_for(trained):
            warnings.warn(
                f"samples start from {type(source).__name__}, and the velocity was trained from {trained}: where the "
                "two differ nothing was learnt, so leave the source as it is, or train from the other one",
                stacklevel=1,  # one place for all callers, so that it is said once
            )

    def compare_with(self, weaker: FlowBase) -> Self:
        """Let AutoGuidance compare with a weaker flow (smaller, or trained less), in place; it is not saved along.

        Args:
            weaker: A flow of the same states, conditions and path.

        Raises:
            InputError: If states, conditions, path or codec differ: then its velocity means something else.
        """
        for name, own, its in (
            ("kind", self.kind, weaker.kind),
            ("shape", self.shape, weaker.shape),
            ("conditions", self.conditions.items, weaker.conditions.items),
            ("interpolant", self.transport.interpolant, weaker.transport.interpolant),
            ("codec", config_of(self.codec), config_of(weaker.codec)),
        ):
            if own != its:
                raise InputError(f"the weaker flow has {name} {its}, and this one {own}: they have to agree")
        for name, value in self.codec.state_dict().items() if isinstance(self.codec, nn.Module) else ():
            its = weaker.codec.state_dict()[name]  # pyright: ignore[reportAttributeAccessIssue]
            if its.shape != value.shape or not torch.allclose(its.to(value), value, rtol=1e-4):
                raise InputError(f"the weaker flow's codec has another {name}: fit both codecs on the same data")
        self._weak = (weaker.network,)
        return self

    def but(self, **parts: Any) -> Self:
        """The same networks, also the weaker one that they compare with, among other parts; the weights are shared.

        Args:
            parts: Arguments of the constructor by name; None for what it takes by default.
        """
        names = ("network", "transport", "codec", "conditions", "sampler", "shape", "others", "record")
        other = type(self)(**{name: getattr(self, name) for name in names} | parts)
        other._weak, other._cast = self._weak, self._cast
        return other

    def context(self, run: Run | None = None, source: Source | None = None, **cond: Any) -> Context:
        """What solvers need beside the velocity: path, source, and a score if one of the networks gives it.

        What the velocity means is a matter of the source it was trained from. Samples that start elsewhere follow the
        same ODE, but noise on the way would carry them to another law: then there is no score.

        Args:
            run: Counters.
            source: Who is at t=0, if not the training source.
            cond: Conditions, n each.
        """
        trained = self.transport.source
        score = self.bind(run, role="score", **cond) if "score" in self.others else None
        refusal = None if score is not None else self.score_refusal
        if source is not None and source.gaussian != trained.gaussian:
            refusal = refusal or (
                f"samples start from {type(source).__name__}, and the velocity was trained from {trained}, "
                "so noise on the way would not keep them on its path"
            )
        return Context(
            self.transport.interpolant,
            trained,
            score=score,
            score_refusal=refusal,
            refine=self.bind(run, role="refiner", **cond) if "refiner" in self.others else None,
        )

    def told(self, n: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Conditions as the network is told them: one value spread over n samples, null where none is given."""
        known = {item.name: item for item in self.conditions.items}
        if not known and given and getattr(self.network, "spec", None) is not None:
            raise InputError(f"{sorted(given)} is neither an option of sample nor a condition: this flow has none")
        out: dict[str, Tensor] = {}
        for name, value in given.items():
            value = (self.conditions[name].read(value) if known else torch.as_tensor(value)).to(self.device)
            if known:
                discrete = self.conditions[name].discrete
                if value.ndim == (0 if discrete else 1):
                    value = value.expand(n, *value.shape)
            elif value.ndim == 0:
                value = value.expand(n)
            if value.shape[0] != n:
                raise InputError(f"{name} has {value.shape[0]} values for {n} samples: give one for all, or {n}")
            out[name] = value
        if not known:
            return out
        out = self.conditions.check(out)
        dropped = {name for names in self.conditions.drop for name in names.split(",")}
        for name, item in known.items():
            if name not in out:
                if name not in dropped:
                    raise InputError(
                        f"{name} is not given, and this flow was trained without dropping it: pass {name}=, "
                        f"or train with drop={{'{name}': 0.1}}"
                    )
                like = torch.zeros(n, dtype=torch.long) if item.discrete else torch.zeros(n, item.width)
                out[name] = item.null(like).to(self.device)
        return {name: v.to(self.dtype) if v.is_floating_point() else v for name, v in out.items()}

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout off while sampling, and as before afterwards; a plain module in half precision under autocast."""
        training = [module for module in self.modules() if module.training]
        weight = None if isinstance(self.network, Network) else next(self.parameters(), None)
        half = weight is not None and weight.dtype in (torch.float16, torch.bfloat16)
        self.eval()
        try:
            with torch.autocast(self.device.type, weight.dtype) if half else contextlib.nullcontext():  # pyright: ignore
                yield
        finally:
            for module in training:
                module.training = True

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        known = self.weights_hash() if self._is_cast_by(fn) else None
        for part in modules_in([*self.fitted.values(), self.sampler]):  # they move along, but are not its weights
            part._apply(fn)
        for module in self._weak:
            if isinstance(module, nn.Module):
                module._apply(fn)
        super()._apply(fn, recurse)
        if known is not None:
            self.cast_from(known)
        return self

    def _is_cast_by(self, fn: Callable[[Tensor], Tensor]) -> bool:
        """Whether weights get another type; without values (on "meta") they have no identity to keep."""
        weights = [value for value in self._weights().values() if not value.is_meta]
        found = [(kind, fn(weights[0].new_empty(0, dtype=kind))) for kind in {w.dtype for w in weights}]
        return any(after.dtype != kind and not after.is_meta for kind, after in found)

    def _weights(self) -> dict[str, Tensor]:
        own = self.network.state_dict() if isinstance(self.network, nn.Module) else {}
        return {f"network.{name}": value for name, value in own.items()} | {
            f"others.{name}": value for name, value in self.others.state_dict().items()
        }

    def stored_hash(self) -> str:
        """Hash of the networks' weights as they lie there, in the type that they have."""
        return hash_tensors(self._weights())

    def weights_hash(self) -> str:
        """The identity of the networks' weights: what `fitted_on` of a part that was found on them names.

        It is the hash of their values, also after a cast to another type: a flow in half precision is the same flow.
        One step of training makes it another one.
        """
        stored = self.stored_hash()
        return self._cast[1] if self._cast is not None and self._cast[0] == stored else stored

    def cast_from(self, known: str) -> None:
        """Keep the identity that the weights had before they were cast to what lies there now, until they change."""
        stored = self.stored_hash()
        self._cast = None if stored == known else (stored, known)
