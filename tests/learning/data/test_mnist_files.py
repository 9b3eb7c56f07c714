"""MNIST and Fashion-MNIST from IDX files: exact values, every accepted folder, every kind of corruption."""

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from onebasin.learning.data.load import DatasetCorrupt, DatasetNotFound, load_dataset
from onebasin.learning.data.sources import mnist
from onebasin.learning.data.sources.idx import read_idx, write_idx_gz

pytestmark = pytest.mark.usefixtures("offline")


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, *, train: int = 6, test: int = 2, zipped: bool = True) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {
        mnist.TRAIN_IMAGES: rng.integers(0, 256, (train, 28, 28), dtype=np.uint8),
        mnist.TRAIN_LABELS: rng.integers(0, 10, train, dtype=np.uint8),
        mnist.TEST_IMAGES: rng.integers(0, 256, (test, 28, 28), dtype=np.uint8),
        mnist.TEST_LABELS: rng.integers(0, 10, test, dtype=np.uint8),
    }
    paths = {}
    for name, array in arrays.items():
        paths[name] = folder / (name + ".gz" if zipped else name)
        paths[name].write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    return paths


def test_an_idx_file_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(bytes.fromhex("00000801 00000003 07 00 ff"))
    assert read_idx(path, 1).tolist() == [7, 0, 255]


def test_written_files_are_read_back_and_reproducible(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    first, second = tmp_path / "a.gz", tmp_path / "deep" / "b.gz"
    write_idx_gz(first, array)
    write_idx_gz(second, array)
    assert (read_idx(first, 3) == array).all()
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.gz", "b.gz"]


def test_images_are_normalised_with_the_training_statistics(tmp_path: Path) -> None:
    paths = write(tmp_path / "mnist")
    train = np.zeros((2, 28, 28), dtype=np.uint8)
    train[0] = 255  # mean 127.5, deviation 127.5
    paths[mnist.TRAIN_IMAGES].write_bytes(gzip.compress(idx(train)))
    paths[mnist.TRAIN_LABELS].write_bytes(gzip.compress(idx(np.array([3, 9], dtype=np.uint8))))
    paths[mnist.TEST_IMAGES].write_bytes(gzip.compress(idx(np.full((1, 28, 28), 51, dtype=np.uint8))))
    paths[mnist.TEST_LABELS].write_bytes(gzip.compress(idx(np.array([4], dtype=np.uint8))))
    data = load_dataset("mnist", data_dir=tmp_path)
    assert data.train.inputs.shape == (2, 1, 28, 28)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.inputs[0].unique().tolist() == [1.0]
    assert data.train.inputs[1].unique().tolist() == [-1.0]
    assert data.test.inputs.unique().tolist() == pytest.approx([-0.6])
    assert data.train.targets.tolist() == [3, 9]
    assert (data.classes, data.owner_names, data.train.owners) == (10, (), None)
    assert data.source == str(tmp_path / "mnist")
    sizes = [paths[name].stat().st_size for name in (mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS)]
    assert data.compressed_bytes == sum(sizes)


@pytest.mark.parametrize("where", ["fashion-mnist", "fashion-mnist/raw", "FashionMNIST/raw", "."])
@pytest.mark.parametrize("zipped", [True, False])
def test_files_are_read_from_every_folder_plain_or_compressed(tmp_path: Path, where: str, zipped: bool) -> None:
    write(tmp_path / where, zipped=zipped)
    data = load_dataset("fashion-mnist", data_dir=tmp_path)
    assert len(data.train) == 6
    assert data.class_names[9] == "Ankle boot"
    # Noise does not compress, and plain files count with their deflated size.
    assert 6 * 784 < data.compressed_bytes < 6 * 784 + 200


def test_the_data_directory_is_searched_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "data" / "mnist", train=3)
    write(tmp_path / "cache" / "mnist", train=4)
    monkeypatch.setenv("ONEBASIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ONEBASIN_CACHE", str(tmp_path / "cache"))
    assert len(load_dataset("mnist").train) == 3
    monkeypatch.setenv("ONEBASIN_DATA", str(tmp_path / "nowhere"))
    assert len(load_dataset("mnist").train) == 4
    monkeypatch.delenv("ONEBASIN_DATA")
    assert len(load_dataset("mnist").train) == 4
    assert len(load_dataset("mnist", data_dir=tmp_path / "data").train) == 3


def test_the_cache_is_in_the_home_directory_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEBASIN_DATA", raising=False)
    monkeypatch.delenv("ONEBASIN_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".cache" / "onebasin" / "mnist", train=5)
    assert len(load_dataset("mnist").train) == 5


def test_missing_files_are_named_with_the_folders_and_the_remedy(tmp_path: Path) -> None:
    paths = write(tmp_path / "data" / "mnist")
    paths[mnist.TEST_LABELS].unlink()
    with pytest.raises(DatasetNotFound) as caught:
        load_dataset("mnist", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert "data set 'mnist' was not found" in message
    assert "train-images-idx3-ubyte[.gz]" in message
    assert f"{tmp_path / 'data' / 'mnist'}: lacks t10k-labels-idx1-ubyte\n" in message
    assert f"{tmp_path / 'data'}: none of them" in message
    assert f"{tmp_path / 'cache'}: no such directory" in message
    assert "no hub in this test" in message
    assert "ONEBASIN_DATA" in message
    assert "pip install 'onebasin[hub]'" in message
    assert isinstance(caught.value, FileNotFoundError)


def compressed(content: bytes) -> bytes:
    """Compress without a time stamp, so that every process collects the same tests."""
    return gzip.compress(content, mtime=0)


LABELS = np.array([0, 1, 2, 3, 4, 5], dtype=np.uint8)
BROKEN = [
    (mnist.TRAIN_IMAGES, b"not gzip at all", "not a whole gzip file"),
    (mnist.TRAIN_IMAGES, compressed(idx(LABELS))[:-9], "not a whole gzip file"),
    (mnist.TRAIN_IMAGES, compressed(idx(LABELS)), "begins with the bytes 00 00 08 01; expected 00 00 08 03"),
    (mnist.TRAIN_LABELS, compressed(b""), "begins with the bytes ; expected 00 00 08 01"),
    (mnist.TRAIN_LABELS, compressed(idx(LABELS)[:6]), "6 bytes .*; expected a header of 8 bytes"),
    (mnist.TRAIN_LABELS, compressed(idx(LABELS)[:-1]), r"13 bytes .*; expected 14 for its sizes \[6\]"),
    (mnist.TRAIN_LABELS, compressed(idx(LABELS) + b"x"), r"15 bytes .*; expected 14 for its sizes \[6\]"),
    (mnist.TRAIN_LABELS, compressed(idx(LABELS[:5])), "5 labels; expected 6 as in train-images-idx3-ubyte.gz"),
    (mnist.TRAIN_LABELS, compressed(idx(LABELS * 2)), "a label 10; expected 0 to 9"),
    (
        mnist.TEST_IMAGES,
        compressed(idx(np.zeros((2, 8, 8), np.uint8))),
        r"\[2, 8, 8\]; expected \[n, 28, 28\]",
    ),
    (mnist.TEST_IMAGES, compressed(idx(np.zeros((0, 28, 28), np.uint8))), r"sizes \[0, 28, 28\]"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_corrupt_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    paths = write(tmp_path / "mnist")
    paths[name].write_bytes(content)
    with pytest.raises(DatasetCorrupt, match=f"{name}.gz: .*{message}") as caught:
        load_dataset("mnist", data_dir=tmp_path)
    assert isinstance(caught.value, ValueError)


def test_mnist_files_are_rejected_as_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path)
    paths[mnist.TRAIN_LABELS].write_bytes(gzip.compress(idx(LABELS)))
    monkeypatch.setitem(mnist.LABEL_COUNTS, "mnist", (1, 1, 1, 1, 1, 1, 0, 0, 0, 0))
    assert load_dataset("mnist", data_dir=tmp_path).name == "mnist"
    with pytest.raises(DatasetCorrupt, match="these are the labels of mnist; expected those of fashion-mnist"):
        load_dataset("fashion-mnist", data_dir=tmp_path)


@pytest.mark.parametrize(("name", "size"), [("mnist", 9_941_303), ("fashion-mnist", 26_451_395)])
def test_the_real_data(real_data: Path, name: str, size: int) -> None:
    data = load_dataset(name)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert tuple(torch.bincount(data.train.targets).tolist()) == mnist.LABEL_COUNTS[name]
    assert data.train.inputs.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert data.train.inputs.std().item() == pytest.approx(1.0, abs=1e-4)
    assert Path(data.source).is_relative_to(real_data)
    # The size of the published files; another gzip of the same images differs by little.
    assert data.compressed_bytes == pytest.approx(size, rel=0.05)
