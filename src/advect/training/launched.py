"""Several processes, through Hugging Face accelerate: what `accelerate launch` or `torchrun` has started.

The kind is read from the environment that the launcher sets: DDP, or FSDP2 (`accelerate launch --use_fsdp
--fsdp_version 2`). Networks and objective are wrapped as one module; weights are gathered where they are saved.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from advect.errors import InputError, require
from advect.training.module import Trained
from advect.training.processes import Processes


class Launched(Processes):
    """One of several processes.

    Args:
        device: "auto", "cpu" or "cuda"; the launcher says which GPU.
    """

    def __init__(self, device: str = "auto") -> None:
        accelerate = require("accelerate", "train", "training on several processes")
        cpu = device == "cpu" or not torch.cuda.is_available()
        if not cpu and device not in ("auto", "cuda"):
            raise InputError(f"device is {device!r}, but there are several processes: give 'auto', 'cuda' or 'cpu'")
        # accelerate starts the processes and finds each its device; what wraps the module is torch's own
        self._state = accelerate.PartialState(cpu=cpu)
        self._sharding = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
        self.device = torch.device(self._state.device)
        self.index, self.count = int(self._state.process_index), int(self._state.num_processes)
        self._templates: dict[int, nn.Module] = {}

    def share(self, module: nn.Module) -> None:
        for value in module.state_dict().values():
            dist.broadcast(value, 0)

    def wrap(self, module: Trained, averaged: Sequence[nn.Module] = (), *, alternate: bool = False) -> nn.Module:
        if not self._sharding:
            devices = [self.device] if self.device.type == "cuda" else None
            return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=alternate)
        mesh = dist.device_mesh.init_device_mesh(self.device.type, (self.count,))
        for part in [*module.networks.values(), *averaged]:
            self._templates[id(part)] = copy.deepcopy(part).cpu()
        for part in averaged:
            _shard(part, mesh)
        _shard(module, mesh)
        return module

    @contextlib.contextmanager
    def _unsynchronised(self, module: FSDPModule):
        module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            module.set_requires_gradient_sync(True)

    def apart(self, module: nn.Module) -> AbstractContextManager[None]:
        if isinstance(module, FSDPModule):
            return self._unsynchronised(module)
        return module.no_sync()  # pyright: ignore[reportCallIssue, reportReturnType]

    def mean(self, value: Tensor) -> Tensor:
        out = value.clone()
        dist.all_reduce(out)
        return out.div_(self.count)

    def whole(self, networks: dict[str, nn.Module]) -> dict[str, nn.Module]:
        if not self._sharding:
            return networks
        out = {}
        for role, network in networks.items():
            template = self._templates[id(network)]
            template.load_state_dict({name: self.gather(value) for name, value in network.state_dict().items()})
            out[role] = template
        return out

    def gather(self, value: Tensor) -> Tensor:
        return value.full_tensor() if isinstance(value, DTensor) else value

    def local(self, value: Tensor) -> Tensor:
        return value.to_local().detach() if isinstance(value, DTensor) else value.detach()

    def spread(self, value: Tensor, target: Tensor) -> None:
        if not isinstance(target, DTensor):
            super().spread(value, target)
            return
        placed = self.like(value, target)
        assert isinstance(placed, DTensor)
        target.to_local().copy_(placed.to_local())

    def like(self, value: Tensor, target: Tensor) -> Tensor:
        if not isinstance(target, DTensor):
            return super().like(value, target)
        return distribute_tensor(value.to(self.device), target.device_mesh, target.placements)

    def any(self, flag: bool) -> bool:
        return bool(self.mean(torch.tensor(float(flag), device=self.device)) > 0)

    def wait(self) -> None:
        self._state.wait_for_everyone()


def _shard(module: nn.Module, mesh: dist.device_mesh.DeviceMesh) -> None:
    """Shard each block of a list of blocks by itself, and what remains together."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
