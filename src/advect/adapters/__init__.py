"""Pipelines of diffusers as flows; foreign conventions are converted here and nowhere else."""

from advect.adapters.backends import SD3, Backend, Flux, QwenImage, Wan, pack, unpack
from advect.adapters.codec import LatentCodec
from advect.adapters.field import PipelineField
from advect.adapters.folder import from_pretrained, is_pipeline
from advect.adapters.grid import SchedulerGrid, dynamic_shift, grid_of
from advect.adapters.layout import Layout
from advect.adapters.pipeline import from_pipeline
from advect.adapters.prompts import Prompt, TextEncoder

__all__ = [
    "SD3",
    "Backend",
    "Flux",
    "LatentCodec",
    "Layout",
    "PipelineField",
    "Prompt",
    "QwenImage",
    "SchedulerGrid",
    "TextEncoder",
    "Wan",
    "dynamic_shift",
    "from_pipeline",
    "from_pretrained",
    "grid_of",
    "is_pipeline",
    "pack",
    "unpack",
]
