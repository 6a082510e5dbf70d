"""advect: generative transport with flow matching, diffusion and flow maps.

Convention, everywhere: t=0 is the source, t=1 the data, v = dx/dt, batch first.
"""

from importlib import metadata as _metadata
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from advect import (
    codecs,
    conditions,
    couplings,
    guidance,
    interpolants,
    metrics,
    networks,
    objectives,
    oracles,
    solvers,
    sources,
    times,
)
from advect.batch import Batch
from advect.errors import InputError, MissingExtra
from advect.fields import FlowMap, Run, Step, bind
from advect.flow import Flow
from advect.networks import NetSpec
from advect.parts import Part
from advect.sampler import Sampler
from advect.transport import Transport

if _TYPE_CHECKING:
    from advect.training import train

__version__ = _metadata.version("advect")


def __getattr__(name: str) -> _Any:
    """`advect.train`, imported when first used: importing advect costs no more than its core."""
    if name == "train":
        from advect.training import train

        return train
    raise AttributeError(f"module 'advect' has no attribute {name!r}")


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
    "bind",
    "codecs",
    "conditions",
    "couplings",
    "guidance",
    "interpolants",
    "metrics",
    "networks",
    "objectives",
    "oracles",
    "solvers",
    "sources",
    "times",
    "train",
]
