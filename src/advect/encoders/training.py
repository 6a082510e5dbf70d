"""Training of a small classifier: features of one's own pictures, or a judge that saw others than the flow did."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from advect.encoders.classifier import ConvNet
from advect.randomness import generator, randn_like, randperm

Augment = Callable[[Tensor, torch.Generator], Tensor]


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures under a little noise, against learning them by heart."""
    return images + 0.1 * randn_like(images, generator)


def train_classifier(
    images: Tensor,
    labels: Tensor,
    *,
    widths: tuple[int, ...] = (32, 48),
    epochs: int = 40,
    batch_size: int = 64,
    lr: float = 2e-3,
    one_cycle: bool = False,
    augment: Augment = noisy,
    seed: int = 0,
    purpose: tuple[str, ...] = ("classifier",),
) -> ConvNet:
    """Train a :class:`ConvNet` by cross entropy with smoothed labels, AdamW, and random changes of the pictures.

    Args:
        images: Pictures (N, C, H, W).
        labels: Class numbers (N,).
        widths: Channels by level.
        epochs: Passes over the pictures; the last, incomplete batch of a pass is left out.
        batch_size: Pictures per step.
        lr: Rate.
        one_cycle: Whether the rate rises to `lr` and falls again; else it is constant.
        augment: ``augment(images, generator) -> images``, drawn anew for every batch.
        seed: Same seed, same weights on the same machine.
        purpose: Part of the seeds of order and changes, so that two trainings of one seed differ.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ConvNet(images.shape[1], widths, int(labels.max()) + 1).to(memory_format=torch.channels_last)  # pyright: ignore
    optimiser = torch.optim.AdamW(net.parameters(), lr, weight_decay=0.02)
    count = max(1, len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, epochs * count) if one_cycle else None
    g = generator(seed, *purpose)
    for _ in range(epochs):
        for rows in randperm(len(images), g).split(batch_size)[:count]:
            x = augment(images[rows], g).contiguous(memory_format=torch.channels_last)
            loss = nn.functional.cross_entropy(net(x), labels[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if schedule is not None:
                schedule.step()
    return net.eval()
