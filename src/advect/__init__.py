"""advect: generative transport with flow matching, diffusion and flow maps.

Convention, everywhere: t=0 is the source, t=1 the data, v = dx/dt, batch first.

Names are imported when first used, so that `import advect` costs next to nothing over `import torch`.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:
    from advect import (
        adapters,
        codecs,
        conditions,
        couplings,
        data,
        diagnostics,
        distillation,
        encoders,
        guidance,
        interpolants,
        metrics,
        networks,
        objectives,
        oracles,
        report,
        solvers,
        sources,
        systems,
        times,
        training,
    )
    from advect.batch import Batch
    from advect.errors import InputError, MissingExtra
    from advect.fields import FlowMap, Run, Step, bind
    from advect.flow import Flow
    from advect.networks import NetSpec
    from advect.parts import Part
    from advect.sampler import Sampler
    from advect.training import train
    from advect.transport import Transport

    __version__: str

_HOME = {
    "Batch": "batch",
    "Flow": "flow",
    "FlowMap": "fields",
    "InputError": "errors",
    "MissingExtra": "errors",
    "NetSpec": "networks",
    "Part": "parts",
    "Run": "fields",
    "Sampler": "sampler",
    "Step": "fields",
    "Transport": "transport",
    "bind": "fields",
    "train": "training",
}

__all__ = [
    "Batch",
    "Flow",
    "FlowMap",
    "InputError",
    "MissingExtra",
    "NetSpec",
    "Part",
    "Run",
    "Sampler",
    "Step",
    "Transport",
    "adapters",
    "bind",
    "codecs",
    "conditions",
    "couplings",
    "data",
    "diagnostics",
    "distillation",
    "encoders",
    "guidance",
    "interpolants",
    "metrics",
    "networks",
    "objectives",
    "oracles",
    "report",
    "solvers",
    "sources",
    "systems",
    "times",
    "train",
    "training",
]


def __getattr__(name: str) -> _Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("advect")
    if name in _HOME:
        value = getattr(_import_module(f"advect.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in __all__:
        return _import_module(f"advect.{name}")
    raise AttributeError(f"module 'advect' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
