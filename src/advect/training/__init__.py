"""Training: one loop for every objective, checkpoints, averages of weights, stages and recipes."""

from advect.training.api import train
from advect.training.checkpoints import find_flow
from advect.training.ema import EMA, ConstantEMA, PowerEMA
from advect.training.loop import NotFinite
from advect.training.monitor import Monitor
from advect.training.recipe import Recipe, run_recipe, validate
from advect.training.settings import Group, TrainSettings
from advect.training.stages import Stage, Train, Workspace

__all__ = [
    "EMA",
    "ConstantEMA",
    "Group",
    "Monitor",
    "NotFinite",
    "PowerEMA",
    "Recipe",
    "Stage",
    "Train",
    "TrainSettings",
    "Workspace",
    "find_flow",
    "run_recipe",
    "train",
    "validate",
]
