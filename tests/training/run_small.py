"""A small training in a process of its own: run by the tests of faults and of several processes."""

from __future__ import annotations

import os
from pathlib import Path

import torch

import advect
from advect.files import hash_tensors, load_tensors
from advect.objectives import Loss, Networks, Objective
from advect.training import Monitor, PowerEMA
from advect.training.checkpoints import steps_of
from advect.training.logs import CLOCK, read_log


class Killer(Monitor):
    """Raises a signal in this very process: at a step, or at one of the writes that a save is made of."""

    def __init__(self, step: int | None, write: int | None, number: int) -> None:
        self.at, self.number = step, number
        if write is not None:
            self._count_writes(write)

    def step(self, done: int) -> None:
        if done == self.at:
            os.kill(os.getpid(), self.number)

    def _count_writes(self, write: int) -> None:
        import advect.files as files

        original, left = os.replace, [write]

        def replace(source: str, target: str) -> None:
            left[0] -= 1
            if left[0] == 0:  # half of the file is on the disk, and nothing has its name yet
                os.truncate(source, os.path.getsize(source) // 2)
                os.kill(os.getpid(), self.number)
            original(source, target)

        files.os.replace = replace  # type: ignore[assignment]  # a stand-in that dies on time


class ForwardMode(Objective):
    """A loss with the derivative of the network along the path (forward mode), as MeanFlow has."""

    def loss(self, nets: Networks, batch: advect.Batch, generator: torch.Generator | None) -> Loss:
        assert batch.x0 is not None
        t = torch.rand(len(batch), generator=generator, dtype=batch.x1.dtype)
        x, v = torch.lerp(batch.x0, batch.x1, t[:, None]), batch.x1 - batch.x0
        u, change = torch.func.jvp(nets.model, (x, t), (v, torch.ones_like(t)))
        return Loss(u - v + 0.3 * change.detach(), t=t)


class Net(torch.nn.Module):
    """A field in 2-D with dropout, so that a resume must bring back more than the weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(3, width), torch.nn.SiLU(), torch.nn.Dropout(0.1), torch.nn.Linear(width, 2)
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.body(torch.cat([x, t.expand(len(x))[:, None]], 1))


class Map(Net):
    """The same as a flow map: it is told where a jump starts and how long it is."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.body[0] = torch.nn.Linear(4, width)

    def forward(self, x: torch.Tensor, r: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        return self.body(torch.cat([x, r.expand(len(x))[:, None], (t - r).expand(len(x))[:, None]], 1))

    def velocity(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self(x, t, t)


def small(
    folder: str | Path | None, *, width: int = 16, seed_network: int = 3, flow_map: bool = False, **options: object
) -> advect.Flow:
    """Train the small net in a folder."""
    x = torch.randn(96, 2, generator=torch.Generator().manual_seed(3)) @ torch.tensor(
        [[1.0, 0.4], [0.0, 0.5]]
    ) + torch.tensor([2.0, -1.0])
    torch.manual_seed(seed_network)
    settings = {
        "steps": 40,
        "batch_size": 32,
        "log_every": 6,
        "checkpoint_every": 8,
        "sample_every": 20,
        "sample_count": 16,
        "warmup": 5,
        "tensorboard": False,
        "device": "cpu",
        "ema": PowerEMA((0.05, 0.1)),
    }
    # options of any kind, so their types cannot be known
    return advect.train(Map(width) if flow_map else Net(width), x, folder=folder, **{**settings, **options})  # type: ignore[arg-type]


def outcome(folder: str | Path) -> dict[str, object]:
    """Everything that has to be the same after a run that was killed: weights, averages, optimiser, samples, log."""
    folder = Path(folder)
    last = folder / "checkpoints" / f"step-{steps_of(folder / 'checkpoints')[-1]:08d}"
    rows = [{k: v for k, v in row.items() if k not in CLOCK} for row in read_log(folder / "log.jsonl")]
    return {
        "training": hash_tensors(load_tensors(last / "training.safetensors")),
        "flow": hash_tensors(load_tensors(folder / "flow" / "model.safetensors")),
        "samples": {p.name: p.read_bytes().hex() for p in sorted((folder / "samples").iterdir())},
        "log": rows,
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
    }


def run(folder: str, number: int, at_step: int | None, at_write: int | None) -> None:
    """What a process of its own does."""
    torch.set_num_threads(1)
    small(folder, monitor=Killer(at_step, at_write, number))
