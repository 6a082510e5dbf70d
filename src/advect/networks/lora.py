"""Low-rank adapters on every linear and convolutional layer of a network, trained in place of its weights."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn

from advect.errors import InputError, require
from advect.networks.base import Network
from advect.parts import ModulePart
from advect.randomness import seed_of


class LoRA(ModulePart):
    r"""A network whose layers are W + (alpha/rank) B A with W frozen, and A, B of low rank trained.

    Every Linear and Conv2d has an adapter; B starts at zero, so that the network starts as it was. All other weights
    are frozen. :meth:`merged` gives the plain network back, with the adapters added into its weights.

    Args:
        network: The network; it is taken over and changed.
        rank: Rank of the adapters, at least 1.
        alpha: Their scale, above 0, times 1/rank.
        seed: Seed of A.

    Raises:
        MissingExtra: If peft is not installed (``pip install 'advect[lora]'``).
        InputError: If rank or alpha is out of range, or the network has no such layer.

    Source: LoRA, arXiv 2106.09685, section 4. Rank 4 and alpha 1 as in BOSS, arXiv 2312.16414.
    """

    def __init__(self, network: Network, rank: int = 4, alpha: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        if rank < 1 or not alpha > 0:
            raise InputError(f"rank is {rank} and alpha {alpha}: the rank is at least 1, and alpha above 0")
        peft = require("peft", "lora", "LoRA")
        names = [name for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        if not names:
            raise InputError(f"the network {type(network).__name__} has no Linear or Conv2d: train all of it")
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(map(re.escape, names)))
        network.requires_grad_(False)
        with torch.random.fork_rng([]):
            torch.manual_seed(seed_of(seed, "lora"))
            peft.inject_adapter_in_model(config, network)  # makes the adapters alone trainable
        self.network, self.spec = network, network.spec
        if hasattr(network, "velocity"):
            self.velocity = network.velocity

    def forward(self, x: Tensor, *times: Tensor, **cond: Any) -> Any:
        """What the network says, adapters included."""
        return self.network(x, *times, **cond)

    @property
    def trained(self) -> float:
        """The share of the weights that is trained."""
        sizes = [(p.numel(), p.requires_grad) for p in self.parameters()]
        return sum(n for n, trained in sizes if trained) / sum(n for n, _ in sizes)

    def adapter(self) -> dict[str, Tensor]:
        """The adapters alone, by name: what is worth keeping of many that share one network."""
        return {name: value for name, value in self.network.state_dict().items() if "lora_" in name}

    def merged(self) -> Network:
        """The plain network with the adapters added into its weights; this one is left as it is."""
        layers = require("peft.tuners.lora", "lora", "LoRA")
        network = copy.deepcopy(self.network)
        worn: list[tuple[str, Any]] = list(network.named_modules())
        for name, module in worn:
            if isinstance(module, layers.LoraLayer):
                module.merge()
                parent, _, last = name.rpartition(".")
                setattr(network.get_submodule(parent), last, module.get_base_layer())
        return network.requires_grad_(True)
