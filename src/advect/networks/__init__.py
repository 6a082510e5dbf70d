"""Networks and wrappers of their outputs."""

from advect.networks.attention import SelfAttention, attend
from advect.networks.base import NetSpec, Network
from advect.networks.dit import DiT
from advect.networks.eta_score import EtaScore
from advect.networks.mlp import MLP
from advect.networks.prediction import BoundPrediction, Prediction
from advect.networks.unet import UNet

__all__ = [
    "MLP",
    "BoundPrediction",
    "DiT",
    "EtaScore",
    "NetSpec",
    "Network",
    "Prediction",
    "SelfAttention",
    "UNet",
    "attend",
]
