"""One optimiser per role: own rate, own clipping, own turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.training.processes import Processes
from advect.training.settings import Group, TrainSettings


class Optimisers:
    """The optimisers of a training.

    Args:
        modules: What is trained, by role; a role without parameters gets no optimiser.
        settings: Rates, clipping, schedule, groups.
        processes: Over which gradients may be spread.
    """

    def __init__(self, modules: Mapping[str, nn.Module], settings: TrainSettings, processes: Processes) -> None:
        self.settings, self.processes = settings, processes
        self.names: dict[str, list[str]] = {}
        self.parameters: dict[str, list[Tensor]] = {}
        self.by_role: dict[str, torch.optim.Optimizer] = {}
        self.groups: dict[str, Group] = {}
        for role, module in modules.items():
            named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
            if not named:
                continue
            self.names[role] = [name for name, _ in named]
            self.parameters[role] = [p for _, p in named]
            self.groups[role] = settings.groups.get(role, Group())
            self.by_role[role] = _optimiser(self.parameters[role], settings)
        if not self.by_role:
            raise InputError("nothing can be trained: no network has a parameter that requires a gradient")
        self._alternate = any(group.every > 1 for group in self.groups.values())

    def turns(self, step: int) -> list[str]:
        """The roles that are trained in this step."""
        if not self._alternate:
            return list(self.by_role)
        return [role for role, group in self.groups.items() if group.active(step)]

    def tensors(self) -> dict[str, Tensor]:
        """Moments and counts by role, parameter and name, for a checkpoint."""
        out = {}
        for role, optimiser in self.by_role.items():
            for name, parameter in zip(self.names[role], self.parameters[role], strict=True):
                for key, value in optimiser.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        out[f"{role}|{name}|{key}"] = value
        return out

    def restore(self, tensors: Mapping[str, Tensor], like: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take up what :meth:`tensors` gave; `like` brings a whole tensor to where and how a parameter lies."""
        where = {
            (role, name): (optimiser, parameter)
            for role, optimiser in self.by_role.items()
            for name, parameter in zip(self.names[role], self.parameters[role], strict=True)
        }
        for full_name, value in tensors.items():
            role, name, key = full_name.split("|")
            optimiser, parameter = where[role, name]
            placed = like(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)
            optimiser.state[parameter][key] = placed

    def zero_grad(self) -> None:
        """Forget all gradients, also of roles whose turn it is not."""
        for optimiser in self.by_role.values():
            optimiser.zero_grad(set_to_none=True)

    def step(self, step: int, roles: Iterable[str]) -> Tensor | None:
        """Clip and update these roles; returns the norm of their gradients before clipping, on the device."""
        norms = []
        for role in roles:
            group, optimiser = self.groups[role], self.by_role[role]
            gradients = [p.grad for p in self.parameters[role] if p.grad is not None]
            if not gradients:
                continue
            norm = self.processes.gather(nn.utils.get_total_norm(gradients))
            norms.append(norm)
            clip = self.settings.clip if group.clip is None else group.clip
            if clip is not None:
                held = [self.processes.local(gradient) for gradient in gradients]
                factor = torch.clamp(clip / (norm + 1e-12), max=1.0)
                torch._foreach_mul_(held, factor)  # pyright: ignore[reportPrivateImportUsage]
            rate = self.settings.rate(step, self.settings.lr if group.lr is None else group.lr)
            for parameters in optimiser.param_groups:
                parameters["lr"] = rate
            optimiser.step()
        if len(norms) < 2:
            return norms[0] if norms else None
        return torch.linalg.vector_norm(torch.stack(norms))


def _optimiser(parameters: list[Tensor], settings: TrainSettings) -> torch.optim.Optimizer:
    groups = [{"params": parameters}] if settings.weight_decay == 0.0 else _decayed(parameters, settings.weight_decay)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=settings.betas[0])
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, settings.lr, betas=settings.betas, weight_decay=0.0, fused=True)


def _decayed(parameters: list[Tensor], decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [{"params": ps, "weight_decay": wd} for ps, wd in ((matrices, decay), (vectors, 0.0)) if ps]
