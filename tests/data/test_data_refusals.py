"""What a user can get wrong: one sentence that names the file or key and the mend."""

from __future__ import annotations

import gzip
import re

import data_examples as made
import numpy as np
import pytest
import torch
from PIL import Image

from advect import data
from advect.data import Data
from advect.errors import InputError


def refused(example: Data, *parts: str) -> None:
    """Opening says all of these, in order."""
    with pytest.raises(InputError, match=".*".join(re.escape(part) for part in parts)) as caught:
        _ = example.shape
    assert "\n" not in str(caught.value)


def arrays(tmp_path, **columns) -> data.Arrays:
    np.savez(tmp_path / "a.npz", **columns)
    return data.Arrays(str(tmp_path / "a.npz"))


X = np.random.default_rng(0).normal(size=(20, 3))


def test_nan_names_row_and_column(tmp_path):
    x = X.copy()
    x[7, 2] = np.nan
    x[9] = np.inf
    refused(arrays(tmp_path, x1=x), "a.npz: x1 holds nan in row 7, column 2 (2 rows in all): fill or remove them")
    refused(data.Tensors(X, vectors={"age": x[:, 2]}), "age holds nan in row 7 (2 rows")


def test_large_finite_numbers_are_no_nan():
    x = torch.full((100, 2), 3e38)
    assert data.Tensors(x).shape == (2,)


def test_shapes_that_do_not_fit():
    refused(data.Tensors(X, label=np.zeros(19, int)), "labels has 19 rows and x1 has 20")
    refused(data.Tensors(X, vectors={"age": np.zeros(3)}), "age has 3 rows and x1 has 20")
    refused(data.Tensors(X, vectors={"age": np.zeros((20, 2, 2))}), "condition age has shape (20, 2, 2)")
    refused(data.Tensors(X, x0=X[:, :2]), "x0 has shape (20, 2) and x1 (20, 3)")
    refused(data.Tensors(torch.zeros(())), "x1 is a single value")
    refused(data.Tensors(np.zeros((4, 5, 6, 7), np.uint8)), "x1 has shape (4, 5, 6, 7), but pictures", "pictures=False")


def test_wrong_types():
    refused(data.Tensors(X > 0), "x1 has type torch.bool: give integers or real numbers")
    refused(data.Tensors(np.array(["a", "b"])), "x1 has type <U1")
    refused(data.Tensors(X.astype(complex)), "x1 has type complex128")
    refused(data.Tensors(X, label=np.zeros(20)), "labels have type torch.float64: cast them to integers")
    refused(data.Tensors(X, label=np.zeros((20, 4), int)), "labels have shape (20, 4), not (N,)", "labels.argmax(1)")
    refused(
        data.Tensors(torch.rand(5, 3, 4, 4) * 255, pictures=True),
        "x1 runs from",
        "lie in [-1, 1] or are uint8",
        "pictures=False",
    )
    with pytest.raises(InputError, match="x1 is a list: Tensors takes tensors or NumPy arrays"):
        data.Tensors([1.0, 2.0])  # pyright: ignore[reportArgumentType]


def test_labels_out_of_range():
    labels = np.arange(20) % 4
    refused(data.Tensors(X, label=labels - 1), "the label of row 0 is -1, but classes are numbered from 0")
    refused(data.Tensors(X, label=labels, classes=("a", "b", "c")), "the label of row 3 is 3, but classes", "0 to 2")


def test_a_class_without_training_samples_is_a_warning():
    labels = np.array([0, 2] * 10)
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no training sample \(1\)"):
        assert data.Tensors(X, label=labels).conditions[0].width == 3


def test_shares_that_leave_nothing():
    refused(data.Tensors(X, validation=0.5, test=0.5), "leave nothing to train on")
    refused(data.Tensors(X, validation=-0.1), "validation is -0.1: the share that is held out lies in [0, 1)")
    refused(data.Tensors(X[:1], validation=0.9), "nothing is left to train on (1 samples in all)")
    for shape in ((0, 3), (0, 3, 4, 4)):
        refused(data.Tensors(np.zeros(shape)), "nothing is left to train on (0 samples in all)")


def test_keys_of_an_npz(tmp_path):
    refused(arrays(tmp_path, a=X, b=X), "a.npz has no key 'x1': it holds ['a', 'b']", "x1=")
    example = arrays(tmp_path, x1=X)
    refused(data.Arrays(example.path, label="kind"), "a.npz has no key 'kind': it holds ['x1']")
    refused(data.Arrays(example.path, vectors=("age",)), "a.npz has no key 'age'")


def test_pickles_are_never_read(tmp_path):
    ragged = np.empty(2, object)
    ragged[:] = [[1], [1, 2]]
    np.save(tmp_path / "o.npy", ragged, allow_pickle=True)
    np.savez(tmp_path / "o.npz", x1=ragged)
    for name in ("o.npy", "o.npz"):
        refused(data.Arrays(str(tmp_path / name)), f"{name} holds Python objects (a pickle), which are never read")
    refused(data.Tensors(ragged), "x1 is an array of Python objects")


def test_files_that_are_absent_damaged_or_of_another_kind(tmp_path):
    refused(data.Arrays(str(tmp_path / "no.npz")), "no.npz does not exist")
    refused(data.Arrays(str(tmp_path)), "holds neither train.npz nor train.npy")
    arrays(tmp_path, x1=X)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[:200])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "text.npy").write_text("hello")
    for name in ("cut.npz", "empty.npy"):
        refused(data.Arrays(str(tmp_path / name)), f"{name} is damaged or no NumPy file")
    refused(data.Arrays(str(tmp_path / "text.npy")), "text.npy")
    flipped = bytearray(content)
    flipped[150] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(flipped)
    refused(data.Arrays(str(tmp_path / "flipped.npz")), "flipped.npz is damaged or no NumPy file")
    for split, x in (("train", X), ("test", X[:, :2])):
        np.save(tmp_path / f"{split}.npy", x)
    refused(data.Arrays(str(tmp_path)), "samples have shape (3,) in train and (2,) in test")


def test_picture_folders(tmp_path):
    refused(data.ImageFolder(str(tmp_path / "no")), "no is not a folder")
    refused(data.ImageFolder(str(tmp_path)), "holds no pictures (.png, .jpg, .jpeg, .webp, ...)")
    made.write_folder(tmp_path)
    (tmp_path / "loose.png").write_bytes(made.png(made.pictures()[0]))
    refused(
        data.ImageFolder(str(tmp_path)), "holds pictures both in folders (class_0, ...) and beside them", "labels=False"
    )
    assert data.ImageFolder(str(tmp_path), labels=False).conditions == ()
    refused(data.ImageFolder(str(tmp_path), resolution=0, labels=False), "resolution is 0")
    made.write_folder(tmp_path / "train")
    refused(data.ImageFolder(str(tmp_path)), "the folder train, a split, and class_0, which is none: move all")


@pytest.mark.parametrize("memory_gb", [0.0, 1.0])
def test_corrupt_pictures_are_named(tmp_path, memory_gb):
    made.write_folder(tmp_path)
    broken = tmp_path / "class_1" / "004.png"
    content = broken.read_bytes()
    broken.write_bytes(b"not a picture")
    refused(data.ImageFolder(str(tmp_path), memory_gb=memory_gb), "class_1/004.png is damaged or no picture", "remove")
    broken.write_bytes(content[: len(content) // 2])  # the header is whole, the pixels are not
    example = data.ImageFolder(str(tmp_path), memory_gb=memory_gb, validation=0, test=0)
    with pytest.raises(InputError, match=r"class_1/004\.png is damaged .*replace or remove it"):
        example.batch("train", torch.arange(made.N))


def test_mixed_sizes_name_both_and_the_option(tmp_path):
    made.write_folder(tmp_path)
    Image.fromarray(made.pictures(1, 9)[0]).resize((9, 7)).save(tmp_path / "class_2" / "zzz.png")
    refused(
        data.ImageFolder(str(tmp_path)),
        "pictures differ in size", "000.png is 6x6 and", "zzz.png is 9x7: set resolution=64 or the like",
    )  # fmt: skip


def test_sixteen_bit_pictures(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a.png")
    refused(data.ImageFolder(str(tmp_path)), "a.png has pixels of mode I;16, not 8 bits a channel")


def test_idx_files(tmp_path):
    refused(data.Idx(str(tmp_path / "no")), "is not a folder")
    refused(data.Idx(str(tmp_path)), "holds no train-images-idx3-ubyte or its .gz")
    made.write_idx(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    content = images.read_bytes()
    for broken, sentence in (
        (content[:-5], "train-images-idx3-ubyte is cut short or damaged: shape (24, 6, 6) takes 864 bytes, and 859"),
        (b"hello world", "is not an idx file: it starts with 68 65 6c 6c"),
        (b"", "is not an idx file: it starts with nothing"),
        (gzip.compress(content)[:-20], "train-images-idx3-ubyte is damaged"),
    ):
        images.write_bytes(broken)
        refused(data.Idx(str(tmp_path)), sentence)
    images.write_bytes(content)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    refused(data.Idx(str(tmp_path)), "label is given for some splits and not for others: give it for test")


def test_cifar(tmp_path):
    refused(data.Cifar10(str(tmp_path / "no")), "is not a folder: unpack cifar-10-binary.tar.gz")
    refused(data.Cifar10(str(tmp_path)), "holds neither data_batch_1.bin", "nor data_batch_1.png")
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x02}q\x01.")
    refused(
        data.Cifar10(str(tmp_path)),
        "holds the Python version of CIFAR-10, which is a pickle and never read",
        "the binary version, https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    )
    made.write_cifar_binary(tmp_path / "bin")
    folder = tmp_path / "bin" / "cifar-10-batches-bin"
    whole = (folder / "data_batch_3.bin").read_bytes()
    (folder / "data_batch_3.bin").write_bytes(whole[:-1])
    refused(data.Cifar10(str(folder)), "data_batch_3.bin is cut short or damaged")
    (folder / "data_batch_3.bin").unlink()
    refused(data.Cifar10(str(folder)), "data_batch_3.bin is missing")
    made.write_cifar_sheets(tmp_path / "png")
    (tmp_path / "png" / "train_lables.json").write_text("[1, 2")
    refused(data.Cifar10(str(tmp_path / "png")), "train_lables.json is not valid JSON")
    (tmp_path / "png" / "data_batch_1.png").write_bytes(made.png(made.pictures(4)[0]))
    refused(data.Cifar10(str(tmp_path / "png")), "data_batch_1.png is 6 pixels wide")


def test_tars(tmp_path):
    refused(data.WebDataset(str(tmp_path / "no.tar")), "no.tar does not exist: check the pattern")
    refused(data.WebDataset(str(tmp_path / "*.tar")), "*.tar holds no pictures")
    tar = made.write_tar(tmp_path / "a.tar")
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar.read_bytes()))
    refused(data.WebDataset(str(tmp_path / "a.tar.gz")), "a.tar.gz cannot be read as a tar", "unpack it first")
    made.write_tar(tmp_path / "b.tar", classes=False)
    refused(data.WebDataset(str(tmp_path / "{a,b}.tar")), "{a,b}.tar does not exist")
    refused(data.WebDataset(str(tar), str(tmp_path / "b.tar")), "b.tar:000.png has no .cls beside it")
    content = bytearray(tar.read_bytes())
    at = content.find(b"001.cls")
    content[at + 512] = ord("x")
    tar.write_bytes(content)
    refused(data.WebDataset(str(tar)), "a.tar:001.cls holds 'x', not a class number")


def test_hugging_face(tmp_path):
    refused(
        data.HuggingFace("parquet", data_files={"train": str(tmp_path / "no.parquet")}), "'parquet' cannot be loaded"
    )
    file = str(made.write_parquet(tmp_path / "a.parquet"))
    refused(
        data.HuggingFace("parquet", "photo", data_files={"train": file}),
        "column is 'photo', but parquet has the columns",
    )
    refused(data.HuggingFace("parquet", data_files={"train": file}, vectors=("age",)), "has no column 'age'")
    refused(data.HuggingFace("parquet", data_files={"dev": file}), "has the splits ['dev']: say which is for training")
    refused(data.HuggingFace("parquet", data_files={"train": file}, splits={"train": "all"}), "has no split 'all'")


def test_an_absent_split_is_named():
    with pytest.raises(InputError, match=r"Tensors has no split 'dev': there are \['test', 'train', 'validation'\]"):
        data.Tensors(X).batch("dev", torch.tensor([0]))  # pyright: ignore[reportArgumentType]


def test_text_is_no_pickle_and_single_numbers_are_reshaped(tmp_path):
    (tmp_path / "text.npz").write_text("hello")
    refused(data.Arrays(str(tmp_path / "text.npz")), "text.npz is damaged or no NumPy file: write it by np.save")
    np.save(tmp_path / "flat.npy", np.zeros(20, np.float32))
    refused(data.Arrays(str(tmp_path / "flat.npy")), r"flat.npy: x1 has shape (20,)", r"reshape it to (N, 1)")


def test_what_a_callable_raises_is_named_with_its_line(tmp_path):
    (tmp_path / "mine.py").write_text("def make():\n    return {}['inside']\n")
    file = tmp_path / "mine.py"
    refused(data.FromCallable(f"{file}:make"), "make raised KeyError: 'inside'", "mine.py, line 2): mend it there")


def test_a_class_folder_without_pictures_is_a_warning(tmp_path):
    made.write_folder(tmp_path)
    (tmp_path / "class_9").mkdir()
    with pytest.warns(UserWarning, match="class_9 among its folders holds no pictures and is no class"):
        data.ImageFolder(str(tmp_path)).size("train")
