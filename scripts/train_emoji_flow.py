"""Train the emoji flow that ships with advect (src/advect/assets/emoji-flow): about half an hour on one core.

A class-conditional U-Net on 2x2 pixel blocks, saved in half precision (under 8 MB). Run it again with
`python scripts/train_emoji_flow.py`; same seed, same machine, same weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import advect
from advect.codecs import PixelUnshuffle
from advect.data import Emoji
from advect.networks import NetSpec, UNet
from advect.training import Monitor, TrainSettings, train


class Lines(Monitor):
    """One line per log row."""

    def __init__(self) -> None:
        self.start_time = time.time()

    def log(self, row: dict[str, Any]) -> None:
        """Print step, loss and minutes."""
        minutes = (time.time() - self.start_time) / 60
        print(f"{row['step']} loss {row['loss']:.4f} {minutes:.1f} min", flush=True)


def main() -> None:
    """Train, then save."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--out", type=Path, default=root / "src/advect/assets/emoji-flow")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    def network(spec: NetSpec) -> UNet:
        net = UNet(spec, size="S", width=64, multipliers=(1, 2), blocks=1, attention=(1,), dropout=0.05)
        return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    settings = TrainSettings(
        steps=arguments.steps, batch_size=32, lr=1e-3, warmup=300, schedule="cosine", clip=1.0, log_every=100
    )
    flow = train(network, Emoji(), codec=PixelUnshuffle(2), drop=0.1, settings=settings, seed=0, monitor=Lines())
    flow.sampler = advect.Sampler(advect.solvers.Heun(), advect.times.TimeGrid(25))
    flow.half().save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
