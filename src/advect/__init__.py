"""advect: generative transport with flow matching, diffusion and flow maps.

Convention, everywhere: t=0 is the source, t=1 the data, v = dx/dt, batch first.
"""

from importlib import metadata as _metadata

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

__version__ = _metadata.version("advect")

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
]
