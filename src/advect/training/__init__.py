"""Training: one loop for every objective, checkpoints, averages of weights, stages and recipes."""

from advect.training.api import train
from advect.training.ema import EMA, ConstantEMA, PowerEMA
from advect.training.monitor import Monitor
from advect.training.settings import Group, TrainSettings

__all__ = ["EMA", "ConstantEMA", "Group", "Monitor", "PowerEMA", "TrainSettings", "train"]
