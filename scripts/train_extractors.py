"""Train the small classifiers that ship with the package: features and judge for the built-in data sets.

    python scripts/train_extractors.py digits emoji clothing

Each is an ensemble trained on the train split alone, with random shifts (and mirror images where a mirror keeps the
class); nothing is chosen by the other splits, which are only measured at the end.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from advect.data import Clothing, Data, Digits, Emoji
from advect.encoders.classifier import WEIGHTS, ConvNet
from advect.encoders.training import train_classifier
from advect.files import save_tensors, write_json
from advect.randomness import rand, randint, randn_like

SETTINGS = {
    "digits": {"data": Digits(), "widths": (32, 48), "members": 4, "epochs": 60, "shift": 1, "mirror": False},
    "emoji": {"data": Emoji(), "widths": (24, 48, 64), "members": 2, "epochs": 30, "shift": 3, "mirror": True},
    "clothing": {"data": Clothing(), "widths": (24, 48, 64), "members": 2, "epochs": 30, "shift": 3, "mirror": True},
}
RATE, NOISE = 4e-3, 0.1


def everything(data: Data, split: str) -> tuple[Tensor, Tensor]:
    """All images and labels of a split."""
    batch = data.batch(split, torch.arange(data.size(split)))
    return batch.x1, batch.cond["label"]


def augmented(images: Tensor, shift: int, mirror: bool, g: torch.Generator) -> Tensor:
    """Shift every image by up to `shift` pixels each way, repeating its edge, mirror half of them, and add noise."""
    rows, _, high, wide = images.shape
    padded = nn.functional.pad(images, (shift,) * 4, mode="replicate")
    down, right = randint(2 * shift + 1, (rows,), g), randint(2 * shift + 1, (rows,), g)
    i = (down[:, None] + torch.arange(high))[:, None, :, None]
    j = (right[:, None] + torch.arange(wide))[:, None, None, :]
    out = padded[torch.arange(rows)[:, None, None, None], torch.arange(images.shape[1])[None, :, None, None], i, j]
    if mirror:
        out = torch.where(rand((rows, 1, 1, 1), g) < 0.5, out.flip(3), out)
    return out + NOISE * rand((rows, 1, 1, 1), g) * randn_like(out, g)


def train(name: str, seed: int, images: Tensor, labels: Tensor) -> ConvNet:
    """One member of an ensemble."""
    settings = SETTINGS[name]
    return train_classifier(
        images,
        labels,
        widths=settings["widths"],
        epochs=settings["epochs"],
        lr=RATE,
        one_cycle=True,
        augment=lambda x, g: augmented(x, settings["shift"], settings["mirror"], g),
        seed=seed,
        purpose=("extractor", name),
    )


@torch.no_grad()
def accuracy(nets: list[ConvNet], images: Tensor, labels: Tensor) -> float:
    """Share of images whose most probable class is theirs."""
    probabilities = torch.stack([net(images).softmax(1) for net in nets]).mean(0)
    return round((probabilities.argmax(1) == labels).double().mean().item(), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(SETTINGS), help="digits, emoji, clothing; all if none")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights")
    options = parser.parse_args()
    for name in options.names:
        settings, start = SETTINGS[name], time.process_time()
        images, labels = everything(settings["data"], "train")
        classes = int(labels.max()) + 1
        nets = [train(name, seed, images, labels) for seed in range(settings["members"])]
        weights = {
            f"members.{i}.{k}": v.half() if v.is_floating_point() else v
            for i, net in enumerate(nets)
            for k, v in net.state_dict().items()
        }
        for i, net in enumerate(nets):  # measure what is written: half precision
            net.load_state_dict({k: weights[f"members.{i}.{k}"].float() for k in net.state_dict()})
        measured = {split: accuracy(nets, *everything(settings["data"], split)) for split in ("validation", "test")}
        save_tensors(options.out / f"{name}.safetensors", weights)
        write_json(
            options.out / f"{name}.json",
            {
                "version": "1",
                "shape": list(images.shape[1:]),
                "classes": classes,
                "widths": list(settings["widths"]),
                "members": settings["members"],
                "trained_on": f"advect.data.{type(settings['data']).__name__}, train split, {len(images)} images",
                "accuracy": measured,
                "processor_seconds": round(time.process_time() - start),
                "command": f"python scripts/train_extractors.py {name}",
            },
        )
        print(name, measured, f"{time.process_time() - start:.0f} s")


if __name__ == "__main__":
    main()
