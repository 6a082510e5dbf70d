"""Gradient checkpointing: activations of a block are computed again in the backward pass instead of kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from advect.networks.layers import under_forward_ad


def run_block(block: nn.Module, *inputs: Any, again: bool) -> Any:
    """Call a block; with `again`, keep only its inputs for the backward pass.

    Under forward-mode differentiation, where saved tensors cannot be recomputed, the block runs plainly.
    """
    if again and torch.is_grad_enabled() and not under_forward_ad():
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)
