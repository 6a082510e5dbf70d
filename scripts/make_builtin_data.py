"""Write the three data sets that ship inside the package: digits, emoji, clothing.

    python scripts/make_builtin_data.py SOURCE

SOURCE holds ``fluent-emoji/`` (``images.tar`` of 96x96 RGBA WebP, ``captions.json``) and ``clothing10/`` (one tar of
128x128 JPEG per split, ``classes.json``); where these come from is said in ``src/advect/data/builtin/README.md``. The
digits come with scikit-learn. Pictures are averaged over whole blocks of pixels down to 32x32 and laid as tiles on
one sheet: emoji without loss, so that the same emoji in two skin tones differs in the skin and nowhere else; the
photographs as JPEG without chroma subsampling, whose 8x8 blocks do not bleed from one tile into the next.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from advect.files import write_atomically

TARGET = Path(__file__).parent.parent / "src" / "advect" / "data" / "builtin"
SPLITS = ("train", "validation", "test")
SIZE, COLUMNS = 32, 64
TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
SAME_PERSON = TONES | {"fe0f", "200d", "2640", "2642", "27a1"}  # tone, presentation, joiner, gender signs, facing right
NEAR_COPY = 1e-3  # mean squared difference of two pictures, pixels in [0, 1]

Bytes = NDArray[np.uint8]


def shrink(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average (h, w, c) over blocks to (SIZE, SIZE, c)."""
    h, w, c = picture.shape
    return picture.reshape(SIZE, h // SIZE, SIZE, w // SIZE, c).mean((1, 3))


def sheet(tiles: Bytes) -> Image.Image:
    """Lay (n, SIZE, SIZE, c) out in rows of COLUMNS; what is left over is white."""
    n, c = len(tiles), tiles.shape[-1]
    rows = -(-n // COLUMNS)
    padded = np.full((rows * COLUMNS, SIZE, SIZE, c), 255, np.uint8)
    padded[:n] = tiles
    laid = padded.reshape(rows, COLUMNS, SIZE, SIZE, c).swapaxes(1, 2).reshape(rows * SIZE, COLUMNS * SIZE, c)
    return Image.fromarray(laid if c == 3 else laid[..., 0])


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def cut(groups: NDArray[np.int64], families: list[str], fractions: tuple[float, float], seed: int) -> Bytes:
    """The split (0, 1, 2) of each sample: families stay whole, and each group has its share in each split."""
    members: dict[str, list[int]] = {}
    for number, family in enumerate(families):
        members.setdefault(family, []).append(number)
    of_group: dict[int, list[str]] = {}
    for family, numbers in members.items():
        of_group.setdefault(int(groups[numbers[0]]), []).append(family)
    split = np.zeros(len(families), np.uint8)
    rng = np.random.default_rng(seed)
    for group in sorted(of_group):
        names = of_group[group]
        order = [names[i] for i in rng.permutation(len(names))]
        total = sum(len(members[name]) for name in names)
        for part, fraction in zip((1, 2), fractions, strict=True):
            taken = 0
            while taken < round(total * fraction):
                numbers = members[order.pop()]
                split[numbers] = part
                taken += len(numbers)
    return split


def digits() -> None:
    """Handwritten digits, 8x8, 17 levels of grey."""
    images, labels = load_digits(return_X_y=True)
    split = cut(labels.astype(np.int64), [str(i) for i in range(len(labels))], (0.1, 0.2), seed=0)
    file = io.BytesIO()
    np.savez_compressed(
        file, images=images.reshape(-1, 8, 8).astype(np.uint8), labels=labels.astype(np.uint8), split=split
    )
    write_atomically(TARGET / "digits.npz", file.getvalue())


def families_of(names: list[str], pictures: Bytes) -> list[str]:
    """One name per family: an emoji in all tones and genders, and whatever looks the same at this size."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    keys = []
    for name in names:
        points = [point for point in name.removesuffix(".webp").split("-") if point not in SAME_PERSON]
        keys.append("-".join("1f9d1" if point in ("1f468", "1f469") else point for point in points))
    flat = pictures.reshape(len(pictures), -1) / 255.0
    norm = (flat**2).sum(1)
    apart = (norm[:, None] + norm[None] - 2 * flat @ flat.T) / flat.shape[1]
    for a, b in np.argwhere(np.triu(apart < NEAR_COPY, 1)):
        parent[root(keys[a])] = root(keys[b])
    return [root(key) for key in keys]


def emoji(source: Path) -> None:
    """Emoji on white with their alpha as mask, group, caption, base and tone."""
    entries = json.loads((source / "captions.json").read_text())
    with tarfile.open(source / "images.tar") as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        tiles = []
        for entry in entries:
            file = files[entry["file"]]
            assert file is not None
            rgba = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGBA")) / 255.0
            alpha = rgba[..., 3:]
            small = shrink(np.concatenate([rgba[..., :3] * alpha + (1.0 - alpha), alpha], -1))
            tiles.append(np.rint(small * 255.0).astype(np.uint8))
    pictures = np.stack(tiles)
    number = {entry["file"]: i for i, entry in enumerate(entries)}
    groups = sorted({entry["group"] for entry in entries})
    labels = np.array([groups.index(entry["group"]) for entry in entries])
    split = cut(labels, families_of(list(number), pictures[..., :3]), (0.1, 0.1), seed=0)
    columns = {
        "groups": groups,
        "label": labels.tolist(),
        "split": split.tolist(),
        "base": [number.get(entry["base"], -1) for entry in entries],
        "tone": [entry["tone"] or 0 for entry in entries],
        "caption": [entry["caption"] for entry in entries],
    }
    write_atomically(TARGET / "emoji.json", json.dumps(columns, separators=(",", ":")) + "\n")
    write_atomically(
        TARGET / "emoji.webp", encoded(sheet(pictures[..., :3]), "WEBP", lossless=True, quality=100, method=6)
    )
    write_atomically(
        TARGET / "emoji_mask.webp", encoded(sheet(pictures[..., 3:]), "WEBP", lossless=True, quality=100, method=6)
    )


def clothing(source: Path) -> None:
    """Photographs of clothes in ten classes, in the splits they are published with."""
    tiles, labels, split = [], [], []
    for part, name in enumerate(SPLITS):
        with tarfile.open(source / f"{name}.tar") as tar:
            files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            for key in sorted(files):
                picture, label = files[key], files.get(Path(key).stem + ".cls")
                if not key.endswith(".jpg") or picture is None or label is None:
                    continue
                rgb = np.asarray(Image.open(io.BytesIO(picture.read())).convert("RGB"), np.float64)
                tiles.append(np.rint(shrink(rgb)).astype(np.uint8))
                labels.append(int(label.read()))
                split.append(part)
    columns = {"classes": json.loads((source / "classes.json").read_text())["classes"], "label": labels, "split": split}
    write_atomically(TARGET / "clothing.json", json.dumps(columns, separators=(",", ":")) + "\n")
    write_atomically(
        TARGET / "clothing.jpg", encoded(sheet(np.stack(tiles)), "JPEG", quality=95, subsampling=0, optimize=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="folder that holds fluent-emoji/ and clothing10/")
    source = parser.parse_args().source
    digits()
    emoji(source / "fluent-emoji")
    clothing(source / "clothing10")
    sizes = {file.name: file.stat().st_size for file in sorted(TARGET.iterdir())}
    print("\n".join(f"{size:>9,}  {name}" for name, size in sizes.items()), f"\n{sum(sizes.values()):>9,}  in all")


if __name__ == "__main__":
    main()
