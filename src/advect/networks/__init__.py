"""Networks and wrappers of their outputs."""

from advect.networks.attention import SelfAttention, attend
from advect.networks.base import NetSpec, Network
from advect.networks.causal import HistoryKernel, PrefixKernel
from advect.networks.dit import DiT
from advect.networks.eta_score import EtaScore
from advect.networks.heads import AdaLNHead, Head, PlainHead
from advect.networks.kernels import DiTKernel, FieldKernel, Kernel, MLPKernel
from advect.networks.lora import LoRA
from advect.networks.mlp import MLP
from advect.networks.prediction import BoundPrediction, Prediction
from advect.networks.unet import UNet

__all__ = [
    "MLP",
    "AdaLNHead",
    "BoundPrediction",
    "DiT",
    "DiTKernel",
    "EtaScore",
    "FieldKernel",
    "Head",
    "HistoryKernel",
    "Kernel",
    "LoRA",
    "MLPKernel",
    "NetSpec",
    "Network",
    "PlainHead",
    "Prediction",
    "PrefixKernel",
    "SelfAttention",
    "UNet",
    "attend",
]
