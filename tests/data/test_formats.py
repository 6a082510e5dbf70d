"""What each format hands over is what was written, in order, with its labels and its published splits."""

from __future__ import annotations

import io
import tarfile

import data_examples as made
import numpy as np
import pytest
import torch
from PIL import Image

from advect import data
from advect.data import Data
from advect.data.splits import SPLITS, carve
from advect.parts import config_of


def in_order(example: Data, split="train"):
    return example.batch(split, torch.arange(example.size(split)))


def as_bytes(x1: torch.Tensor) -> np.ndarray:
    """[-1, 1] back to bytes, channels last."""
    scaled = (x1.double() + 1.0) * 127.5
    assert float((scaled - scaled.round()).abs().max()) < 1e-4
    return scaled.round().byte().permute(0, 2, 3, 1).numpy()


def everything_as_bytes(example: Data) -> dict[bytes, int]:
    """Picture to label, over all splits."""
    found: dict[bytes, int] = {}
    for split in SPLITS:
        if example.size(split):
            batch = in_order(example, split)
            found |= {p.tobytes(): int(c) for p, c in zip(as_bytes(batch.x1), batch.cond["label"], strict=True)}
    return found


WRITTEN = {picture.tobytes(): int(label) for picture, label in zip(made.pictures(), made.labels(), strict=True)}


@pytest.mark.parametrize("name", ["Tensors", "ImageFolder", "WebDataset", "HuggingFace"])
def test_pictures_and_their_labels_survive(name, tmp_path):
    assert everything_as_bytes(made.EXAMPLES[name](tmp_path)) == WRITTEN


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_bytes_map_to_the_ends_exactly(value):
    x1 = in_order(data.Tensors(np.full((2, 1, 3, 3), value, np.uint8))).x1
    torch.testing.assert_close(
        x1, torch.full_like(x1, value / 127.5 - 1.0), rtol=0, atol=0 if value in (0, 255) else 1e-7
    )


def test_pictures_stay_bytes_in_memory():
    example = data.Tensors(made.pictures())
    assert isinstance(example.table.x1, torch.Tensor)
    assert example.table.x1.dtype == torch.uint8


def test_splits_are_shares_of_each_class_and_a_function_of_the_seed():
    labels = torch.tensor([0] * 100 + [1] * 20)
    rows = carve(torch.arange(120), labels, {"validation": 0.2, "test": 0.1}, seed=3)
    for split, counts in {"train": [70, 14], "validation": [20, 4], "test": [10, 2]}.items():
        assert torch.bincount(labels[rows[split]]).tolist() == counts
    again = carve(torch.arange(120), labels, {"validation": 0.2, "test": 0.1}, seed=3)
    other = carve(torch.arange(120), labels, {"validation": 0.2, "test": 0.1}, seed=4)
    assert all(torch.equal(rows[split], again[split]) for split in SPLITS)
    assert not torch.equal(rows["test"], other["test"])


# --- arrays ---------------------------------------------------------------------------------------------------------


def test_npy_becomes_float32_as_it_stands(tmp_path):
    x = np.random.default_rng(0).normal(size=(10, 4)) * 50
    np.save(tmp_path / "x.npy", x)
    example = data.Arrays(str(tmp_path / "x.npy"), validation=0, test=0)
    assert example.kind == "array"
    torch.testing.assert_close(in_order(example).x1, torch.tensor(x, dtype=torch.float32), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "float16", "int16", "uint16", ">i4", "uint8", "int64"])
def test_numbers_of_every_type(dtype, tmp_path):
    x = np.arange(12).reshape(6, 2).astype(dtype)
    np.savez(tmp_path / "x.npz", positions=x)  # the only key is the data
    example = data.Arrays(str(tmp_path / "x.npz"), validation=0, test=0)
    assert in_order(example).x1.tolist() == np.arange(12.0).reshape(6, 2).tolist()


def test_npz_keys_by_name(tmp_path):
    rng = np.random.default_rng(0)
    a, b, c, y = rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), rng.normal(size=(9, 5)), np.arange(9) % 3
    np.savez(tmp_path / "x.npz", end=a, start=b, gene=c, kind=y, unused=np.array(["text"]))
    example = data.Arrays(
        str(tmp_path / "x.npz"), x1="end", x0="start", label="kind", vectors=("gene",), classes=("p", "q", "r"),
        validation=0, test=0,
    )  # fmt: skip
    batch = in_order(example)
    assert batch.x0 is not None
    for ours, theirs in ((batch.x1, a), (batch.x0, b), (batch.cond["gene"], c), (batch.cond["label"], y)):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-6)
    assert example.class_names == ("p", "q", "r")
    assert [condition.name for condition in example.conditions] == ["label", "gene"]


def test_a_folder_of_splits_is_kept_and_only_the_absent_is_carved(tmp_path):
    x = np.arange(60.0).reshape(30, 2)
    np.savez(tmp_path / "train.npz", x1=x[:20])
    np.save(tmp_path / "test.npy", x[20:])
    example = data.Arrays(str(tmp_path), validation=0.25, test=0.5)
    assert [example.size(split) for split in SPLITS] == [15, 5, 10]
    assert in_order(example, "test").x1.tolist() == x[20:].tolist()


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW"])
def test_picture_layouts(layout, tmp_path):
    x = made.pictures()
    stored = {"NHWC": x, "NCHW": x.transpose(0, 3, 1, 2), "NHW": x[..., 0]}[layout]
    np.save(tmp_path / "x.npy", stored)
    example = data.Arrays(str(tmp_path / "x.npy"), validation=0, test=0)
    assert example.kind == "image"
    np.testing.assert_array_equal(as_bytes(in_order(example).x1), x[..., :1] if layout == "NHW" else x)


def test_float_pictures_are_known_by_shape_and_range():
    x = torch.rand(5, 3, 4, 4) * 2 - 1
    assert data.Tensors(x).kind == "image"
    assert data.Tensors(x, pictures=False).kind == "array"
    assert data.Tensors(x * 3).kind == "array"
    assert torch.equal(in_order(data.Tensors(x)).x1, x)


def test_pictures_may_be_paired_with_noise():
    noise = torch.randn(made.N, 3, made.SIDE, made.SIDE)
    batch = in_order(data.Tensors(torch.from_numpy(made.pictures()), x0=noise))
    assert batch.x0 is not None
    assert torch.equal(batch.x0, noise)
    np.testing.assert_array_equal(as_bytes(batch.x1), made.pictures())


def test_a_written_recipe_names_tensors_by_digest():
    x = torch.arange(6.0).reshape(3, 2)
    said = config_of(data.Tensors(x, vectors={"age": x[:, 0]}))
    assert said == config_of(data.Tensors(x.clone(), vectors={"age": x[:, 0]}))
    assert said != config_of(data.Tensors(x + 1, vectors={"age": x[:, 0]}))
    assert said["init_args"]["x1"].startswith("float32 (3, 2) ")


# --- picture files --------------------------------------------------------------------------------------------------


def test_class_folders_are_sorted_and_files_keep_their_order(tmp_path):
    example = data.ImageFolder(str(made.write_folder(tmp_path)), validation=0, test=0)
    assert example.class_names == ("class_0", "class_1", "class_2")
    order = sorted(range(made.N), key=lambda i: (i % made.CLASSES, i))
    np.testing.assert_array_equal(as_bytes(in_order(example).x1), made.pictures()[order])
    assert in_order(example).cond["label"].tolist() == [i % made.CLASSES for i in order]


def test_split_folders_under_either_name(tmp_path):
    for name, n, seed in (("train", 24, 0), ("val", 9, 1), ("test", 6, 2)):
        made.write_folder(tmp_path / name, n, seed=seed)
    example = data.ImageFolder(str(tmp_path))
    assert [example.size(split) for split in SPLITS] == [24, 9, 6]
    assert example.class_names == ("class_0", "class_1", "class_2")


def test_a_flat_folder_has_no_labels_and_hidden_and_other_files_are_passed_over(tmp_path):
    for i, picture in enumerate(made.pictures(5)):
        (tmp_path / f"{i}.PNG").write_bytes(made.png(picture))
    (tmp_path / "._0.png").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("hello")
    example = data.ImageFolder(str(tmp_path), validation=0, test=0)
    assert (example.size(), example.conditions, example.class_names) == (5, (), None)


def test_on_disk_and_in_memory_agree(tmp_path):
    made.write_folder(tmp_path)
    kept, asked = (data.ImageFolder(str(tmp_path), resolution=4, memory_gb=gb) for gb in (1.0, 0.0))
    assert torch.equal(in_order(kept).x1, in_order(asked).x1)
    assert isinstance(kept.table.x1, torch.Tensor)
    assert not isinstance(asked.table.x1, torch.Tensor)


def test_grey_files_have_one_channel_and_one_coloured_file_makes_three(tmp_path):
    for i in range(4):
        Image.fromarray(made.pictures()[i][..., 0]).save(tmp_path / f"{i}.png")
    assert data.ImageFolder(str(tmp_path)).shape == (1, 6, 6)
    Image.fromarray(made.pictures()[4]).save(tmp_path / "4.png")
    assert data.ImageFolder(str(tmp_path)).shape == (3, 6, 6)


def test_transparent_pictures_lie_on_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    rgba[0, 1] = (255, 0, 0, 51)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    picture = as_bytes(in_order(data.ImageFolder(str(tmp_path), validation=0, test=0)).x1)[0]
    assert picture.tolist() == [[[255, 0, 0], [255, 204, 204]], [[255, 255, 255], [255, 255, 255]]]


def test_photographs_are_turned_upright(tmp_path):
    picture = np.full((8, 16, 3), 255, np.uint8)
    picture[:, :8] = 0  # black on the left; turned clockwise, black is on top
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=100)
    example = data.ImageFolder(str(tmp_path), validation=0, test=0)
    assert example.shape == (3, 16, 8)
    x = in_order(example).x1[0]
    assert float(x[:, :8].max()) < -0.9
    assert float(x[:, 8:].min()) > 0.9


def test_policies_of_resizing(tmp_path):
    wide = np.zeros((4, 8, 3), np.uint8)
    wide[:, 2:6] = 255  # the middle square is white
    Image.fromarray(wide).save(tmp_path / "a.png")

    def columns(resize):
        example = data.ImageFolder(str(tmp_path), resolution=4, resize=resize, validation=0, test=0)
        return in_order(example).x1[0, 0]

    assert columns("crop").min() == 1.0
    assert columns("stretch")[:, 0].max() < 0.0 < columns("stretch")[:, 1:3].min()
    padded = columns("pad")
    assert padded[0].min() == padded[3].min() == 1.0
    assert padded[1:3].min() < 0.0


def test_mixed_sizes_come_to_one(tmp_path):
    for i, side in enumerate((5, 9, 20)):
        Image.fromarray(made.pictures(1, side)[0]).save(tmp_path / f"{i}.png")
    assert data.ImageFolder(str(tmp_path), resolution=(8, 6)).shape == (3, 8, 6)


# --- published data sets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
def test_idx(zipped, tmp_path):
    example = data.Idx(str(made.write_idx(tmp_path, zipped)), validation=0)
    assert [example.size(split) for split in SPLITS] == [24, 0, 24]
    np.testing.assert_array_equal(as_bytes(in_order(example).x1), made.pictures()[..., :1])
    np.testing.assert_array_equal(as_bytes(in_order(example, "test").x1), made.pictures(seed=1)[..., :1])
    assert in_order(example, "test").cond["label"].tolist() == made.labels().tolist()


@pytest.mark.parametrize("write", [made.write_cifar_binary, made.write_cifar_sheets])
def test_cifar_in_both_layouts(write, tmp_path):
    example = data.Cifar10(str(write(tmp_path / "cifar")), validation=0)
    x, y = zip(*(made.cifar_arrays(seed) for seed in range(6)), strict=True)
    np.testing.assert_array_equal(as_bytes(in_order(example).x1), np.concatenate(x[:5]))
    np.testing.assert_array_equal(as_bytes(in_order(example, "test").x1), x[5])
    assert in_order(example).cond["label"].tolist() == np.concatenate(y[:5]).tolist()
    assert example.class_names is not None
    assert example.class_names[3] == "cat"


def test_tars_by_pattern_and_split(tmp_path):
    for number in range(3):
        made.write_tar(tmp_path / f"train-{number:03d}.tar", 6, seed=number)
    made.write_tar(tmp_path / "val.tar", 4, seed=9)
    for pattern in ("train-{000..002}.tar", "train-*.tar"):
        example = data.WebDataset(str(tmp_path / pattern), str(tmp_path / "val.tar"), test=0)
        assert [example.size(split) for split in SPLITS] == [18, 4, 0]
        written = np.concatenate([made.pictures(6, seed=number) for number in range(3)])
        np.testing.assert_array_equal(as_bytes(in_order(example).x1), written)
    made.write_tar(tmp_path / "plain.tar", classes=False)
    assert data.WebDataset(str(tmp_path / "plain.tar")).conditions == ()


def test_tar_members_in_folders_are_told_apart(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for folder, label in (("x", 0), ("y", 1)):
            for name, content in (
                (f"{folder}/1.png", made.png(made.pictures()[label])),
                (f"{folder}/1.cls", b"%d" % label),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    example = data.WebDataset(str(tmp_path / "a.tar"), validation=0, test=0)
    assert in_order(example).cond["label"].tolist() == [0, 1]


def test_hugging_face_folder_and_declared_splits(tmp_path):
    for name, n in (("train", 12), ("test", 6)):
        made.write_folder(tmp_path / name, n)
    example = data.HuggingFace("imagefolder", data_dir=str(tmp_path), validation=0)
    assert [example.size(split) for split in SPLITS] == [12, 0, 6]
    assert example.class_names == ("class_0", "class_1", "class_2")
    swapped = data.HuggingFace(
        "imagefolder", data_dir=str(tmp_path), splits={"train": "test", "test": "train"}, validation=0
    )
    assert [swapped.size(split) for split in SPLITS] == [6, 0, 12]
    native = data.ImageFolder(str(tmp_path), validation=0)
    assert everything_as_bytes(example) == everything_as_bytes(native)


def test_hugging_face_numbers(tmp_path):
    import datasets

    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    table = {"position": x.tolist(), "speed": x[:, 0].tolist(), "kind": [i % 2 for i in range(10)]}
    datasets.Dataset.from_dict(table).to_parquet(str(tmp_path / "a.parquet"))
    example = data.HuggingFace(
        "parquet",
        "position",
        "kind",
        ("speed",),
        data_files={"train": str(tmp_path / "a.parquet")},
        validation=0,
        test=0,
    )
    batch = in_order(example)
    np.testing.assert_array_equal(batch.x1.numpy(), x)
    np.testing.assert_array_equal(batch.cond["speed"].numpy(), x[:, :1])
    assert batch.cond["label"].tolist() == table["kind"]
