"""One optimiser per role: own rate, own clipping, own turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from advect.errors import InputError
from advect.training.settings import Group, TrainSettings


class Optimisers:
    """The optimisers of a training.

    Args:
        modules: What is trained, by role; a role without parameters gets no optimiser.
        settings: Rates, clipping, schedule, groups.
    """

    def __init__(self, modules: Mapping[str, nn.Module], settings: TrainSettings) -> None:
        unknown = set(settings.groups) - set(modules)
        if unknown:
            raise InputError(f"groups names {sorted(unknown)}, but what is trained is {sorted(modules)}")
        self.settings = settings
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
            norm = nn.utils.get_total_norm(gradients)
            norms.append(norm)
            clip = self.settings.clip if group.clip is None else group.clip
            if clip is not None:
                torch._foreach_mul_(gradients, torch.clamp(clip / (norm + 1e-12), max=1.0))  # pyright: ignore[reportPrivateImportUsage]
            rate = self.settings.rate(step, self.settings.lr if group.lr is None else group.lr)
            for parameters in optimiser.param_groups:
                parameters["lr"] = rate
            optimiser.step()
        if len(norms) < 2:
            return norms[0] if norms else None
        return torch.linalg.vector_norm(torch.stack(norms))


def _optimiser(parameters: list[Tensor], settings: TrainSettings) -> torch.optim.Optimizer:
    matrices = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay}
    vectors = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    groups = [group for group in (matrices, vectors) if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, settings.lr, momentum=settings.betas[0])
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, settings.lr, betas=settings.betas, fused=True)
