"""Train the picture flows that ship with advect: `python scripts/train_picture_flows.py emoji clothing`.

Each is a class-conditional U-Net on 2x2 pixel blocks, trained on the train split alone and saved in half precision
(under 8 MB) as src/advect/assets/<name>-flow, with the split and its hash in its record. About 45 minutes each on one
core; same seed, same machine, same weights.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

import advect
from advect.codecs import PixelUnshuffle
from advect.data import Clothing, Data, Emoji, HorizontalFlip
from advect.files import hash_tensors
from advect.networks import NetSpec, UNet
from advect.training import Monitor, TrainSettings, train

DATA: dict[str, Data] = {"emoji": Emoji(), "clothing": HorizontalFlip(Clothing())}
STEPS = {"emoji": 4500, "clothing": 5000}


class Lines(Monitor):
    """One line per log row."""

    def __init__(self) -> None:
        self.start_time = time.time()

    def log(self, row: dict[str, Any]) -> None:
        """Print step, loss and minutes."""
        minutes = (time.time() - self.start_time) / 60
        print(f"{row['step']} loss {row['loss']:.4f} {minutes:.1f} min", flush=True)


def network(spec: NetSpec) -> UNet:
    """The U-Net of all picture flows, 3.3 million weights."""
    net = UNet(spec, size="S", width=64, multipliers=(1, 2), blocks=1, attention=(1,), dropout=0.05)
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def main() -> None:
    """Train, then save."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(DATA))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--out", type=Path, default=root / "src/advect/assets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        data = DATA[name]
        settings = TrainSettings(
            steps=arguments.steps or STEPS[name],
            batch_size=32,
            lr=1e-3,
            warmup=300,
            schedule="cosine",
            clip=1.0,
            log_every=100,
        )
        flow = train(network, data, codec=PixelUnshuffle(2), drop=0.1, settings=settings, seed=0, monitor=Lines())
        flow.sampler = advect.Sampler(advect.solvers.Heun(), advect.times.TimeGrid(25))
        images = data.batch("train", torch.arange(data.size("train"))).x1
        flow.record["trained_on"] = {"split": "train", "size": len(images), "hash": hash_tensors({"x1": images})}
        flow.half().save_pretrained(arguments.out / f"{name}-flow")


if __name__ == "__main__":
    main()
