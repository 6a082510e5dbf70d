"""What a part is: something in a seat that knows the arguments it was made from, and can be rebuilt from them.

A part without tensors is a frozen dataclass; a part with tensors is a :class:`ModulePart`. Both give the same nested
config, ``{"class_path": "advect.solvers.Heun", "init_args": {...}}``, which :func:`build` turns back into the part.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from advect.errors import InputError

Config = dict[str, Any]


class Part:
    """A member of a seat, made from plain values and other parts.

    `runs_foreign_code` says that an argument names code outside advect that the part will run: a config that is not
    trusted may not build it. `fitted_on` is the hash of the weights that a part was found on by running them, and None
    for all other parts; one that is found so takes it as an argument.
    """

    # Without annotation: jsonargparse looks up those of all bases in the module of the member, where no ClassVar is.
    runs_foreign_code = False
    fitted_on = None

    def init_args(self) -> dict[str, Any]:
        """The constructor arguments by name: here, the fields of a frozen dataclass."""
        if not dataclasses.is_dataclass(self):
            raise TypeError(f"{type(self).__name__} is a Part but neither a dataclass nor a ModulePart")
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}


class ModulePart(nn.Module, Part):
    """A part with parameters or buffers; it records the arguments of its constructor (survives deepcopy).

    Its own buffers are numbers that were found or given (costs, scales, axes), no weights: ``half()`` and ``double()``
    leave their type alone, and reading them takes that of the file, so that they lose no digits on either way. Where
    they belong to the arithmetic of a network, `buffers_are_weights` says so, and they are cast with it.
    """

    buffers_are_weights = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in cls.__dict__:
            return
        original = cls.__init__
        signature = inspect.signature(original)

        @functools.wraps(original)
        def recording(self: Any, *args: Any, **kwargs: Any) -> None:
            if "_init_args" not in self.__dict__:  # the outermost class records
                bound = signature.bind(self, *args, **kwargs)
                bound.apply_defaults()
                self.__dict__["_init_args"] = dict(list(bound.arguments.items())[1:])
            original(self, *args, **kwargs)

        cls.__init__ = recording  # pyright: ignore[reportAttributeAccessIssue]

    def init_args(self) -> dict[str, Any]:
        return dict(self.__dict__.get("_init_args", {}))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = {} if self.buffers_are_weights else {k: v for k, v in self._buffers.items() if v is not None}
        super()._apply(fn, recurse)
        for name, value in before.items():
            after = self._buffers[name]
            if after is not None and after.dtype != value.dtype:
                self._buffers[name] = value.to(after.device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, value in [] if self.buffers_are_weights else list(self._buffers.items()):
            if value is not None and (read := state_dict.get(prefix + name)) is not None and read.dtype != value.dtype:
                self._buffers[name] = value.to(read.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def parts_in(value: Any) -> list[Part]:
    """A part and all parts among its arguments, also in lists and dicts, outermost first."""
    if isinstance(value, Part):
        return [value, *parts_in(value.init_args())]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [part for item in items for part in parts_in(item)]


def modules_in(value: Any) -> list[ModulePart]:
    """The outermost parts with tensors in a part, list or dict, in the order of their arguments."""
    if isinstance(value, ModulePart):
        return [value]
    if isinstance(value, Part):
        return modules_in(value.init_args())
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [part for item in items for part in modules_in(item)]


def class_path(cls: type) -> str:
    """The importable name of a class: the shortest public ``advect.<room>.<Name>`` that resolves to it."""
    names = cls.__module__.split(".")
    for end in range(1, len(names)):
        module = importlib.import_module(".".join(names[:end]))
        if names[0] == "advect" and getattr(module, cls.__qualname__, None) is cls:
            return f"{'.'.join(names[:end])}.{cls.__qualname__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def config_of(value: Any) -> Any:
    """Turn a part (or a container of parts) into plain nested values that JSON can hold."""
    if isinstance(value, Part):
        return {"class_path": class_path(type(value)), "init_args": config_of(value.init_args())}
    if isinstance(value, dict):
        return {key: config_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [config_of(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot stand in a config: parts take plain values and other parts")


def build(config: Any, *, trust_remote_code: bool = False) -> Any:
    """Rebuild what :func:`config_of` described.

    Args:
        config: Nested plain values; ``{"class_path", "init_args"}`` stands for a part.
        trust_remote_code: Whether classes outside ``advect`` may be imported and called.

    Raises:
        InputError: If a class is outside ``advect`` and not trusted, is not a Part, or refuses its arguments.
    """
    if isinstance(config, list):
        return [build(item, trust_remote_code=trust_remote_code) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_path" not in config or not set(config) <= {"class_path", "init_args"}:
        return {key: build(item, trust_remote_code=trust_remote_code) for key, item in config.items()}
    cls = _resolve(config["class_path"], trust_remote_code)
    given = {k: build(v, trust_remote_code=trust_remote_code) for k, v in config.get("init_args", {}).items()}
    hints = typing.get_type_hints(cls.__init__)
    arguments = {name: _as_annotated(value, hints.get(name)) for name, value in given.items()}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise InputError(f"{config['class_path']} does not take these arguments: {error}") from error


def _resolve(path: str, trusted: bool) -> type:
    module, _, name = path.rpartition(".")
    if not trusted and not (module == "advect" or module.startswith("advect.")):
        raise InputError(
            f"the config names {path}, a class outside advect: if you trust its author, pass trust_remote_code=True"
        )
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"the config names {path}, which cannot be found: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, Part)) or (
        not trusted and not cls.__module__.startswith("advect.")
    ):
        raise InputError(f"the config names {path}, which is not a part of advect")
    if cls.runs_foreign_code and not trusted:
        raise InputError(
            f"the config names {path}, which runs code outside advect: if you trust its author, pass "
            "trust_remote_code=True"
        )
    return cls


def _as_annotated(value: Any, hint: Any) -> Any:
    """JSON has no tuples: restore them where the annotation asks for one."""
    if not isinstance(value, list) or hint is None:
        return value
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) or _is_union(hint) else (hint,)
    for option in options:
        if option is tuple or typing.get_origin(option) is tuple:
            inner = typing.get_args(option)
            if len(inner) == 2 and inner[1] is Ellipsis:
                return tuple(_as_annotated(item, inner[0]) for item in value)
            if len(inner) == len(value):
                return tuple(_as_annotated(item, sub) for item, sub in zip(value, inner, strict=True))
            return tuple(value)
        if typing.get_origin(option) is list and (inner := typing.get_args(option)):
            return [_as_annotated(item, inner[0]) for item in value]
    return value


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Union
