"""Training: one loop for every objective, checkpoints, averages of weights, stages and recipes."""

from advect.training.api import train
from advect.training.checkpoints import find_flow
from advect.training.ema import EMA, ConstantEMA, PowerEMA
from advect.training.loop import NotFinite
from advect.training.monitor import Monitor
from advect.training.pair_stages import MakePairs, Reflow
from advect.training.pairs import make_pairs
from advect.training.posthoc import reconstruct
from advect.training.prepare import prepare
from advect.training.recipe import Recipe, run_recipe, validate
from advect.training.retrain import reflow, reflow_online
from advect.training.segments import make_segments
from advect.training.settings import Group, TrainSettings
from advect.training.stages import Stage, Train, Workspace
from advect.training.straighten import Straighten, straighten

__all__ = [
    "EMA",
    "ConstantEMA",
    "Group",
    "MakePairs",
    "Monitor",
    "NotFinite",
    "PowerEMA",
    "Recipe",
    "Reflow",
    "Stage",
    "Straighten",
    "Train",
    "TrainSettings",
    "Workspace",
    "find_flow",
    "make_pairs",
    "make_segments",
    "prepare",
    "reconstruct",
    "reflow",
    "reflow_online",
    "run_recipe",
    "straighten",
    "train",
    "validate",
]
