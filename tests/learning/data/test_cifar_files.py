"""CIFAR-10 from its binary version: exact values, smaller copies, broken files."""

import lzma
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from onebasin.learning.data.load import DatasetCorrupt, DatasetNotFound, load_dataset
from onebasin.learning.data.sources import cifar

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(autouse=True)
def few_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "RECORDS", 4)


def record(label: int, red: int, green: int, blue: int) -> bytes:
    return bytes([label]) + bytes([red]) * 1024 + bytes([green]) * 1024 + bytes([blue]) * 1024


def batch(label: int) -> bytes:
    """Four records; red is 0 or 200, green is 10 or 30, blue is always 5."""
    return record(label, 0, 10, 5) + record(label, 200, 30, 5) + record(9, 0, 30, 5) + record(0, 200, 10, 5)


def write(folder: Path, batches: int = 5, suffix: str = ".xz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pack = lzma.compress if suffix else bytes
    for index in range(batches):
        (folder / f"data_batch_{index + 1}.bin{suffix}").write_bytes(pack(batch(index + 1)))
    (folder / f"test_batch.bin{suffix}").write_bytes(pack(batch(8)))


@pytest.mark.parametrize("where", ["cifar10", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "."])
@pytest.mark.parametrize("suffix", [".xz", ""])
def test_files_are_read_from_every_folder_plain_or_compressed(tmp_path: Path, where: str, suffix: str) -> None:
    write(tmp_path / where, suffix=suffix)
    data = load_dataset("cifar10", data_dir=tmp_path)
    assert data.train.inputs.shape == (20, 3, 32, 32)
    assert data.train.targets.tolist() == [1, 1, 9, 0, 2, 2, 9, 0, 3, 3, 9, 0, 4, 4, 9, 0, 5, 5, 9, 0]
    assert data.test.targets.tolist() == [8, 8, 9, 0]
    assert data.class_names[9] == "truck"
    # Red: mean 100, deviation 100. Green: mean 20, deviation 10. Blue is constant, so it is only centred.
    assert data.train.inputs[1].mean(dim=(1, 2)).tolist() == [1.0, 1.0, 0.0]
    assert data.train.inputs[0].mean(dim=(1, 2)).tolist() == [-1.0, -1.0, 0.0]
    if suffix:
        sizes = [path.stat().st_size for path in tmp_path.rglob("data_batch_*")]
        assert data.compressed_bytes == sum(sizes)
    else:
        assert 0 < data.compressed_bytes < 5 * 4 * 3073


def test_loading_only_the_first_batches(tmp_path: Path) -> None:
    write(tmp_path / "cifar10", batches=2)
    data = load_dataset("cifar10:2", data_dir=tmp_path)
    assert (data.name, len(data.train), len(data.test)) == ("cifar10:2", 8, 4)
    with pytest.raises(DatasetNotFound) as caught:
        load_dataset("cifar10", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert "cifar10: lacks data_batch_3.bin, data_batch_4.bin, data_batch_5.bin\n" in str(caught.value)
    assert "ask for cifar10:N" in str(caught.value)


@pytest.mark.parametrize("part", ["0", "6", "two", "1:2"])
def test_an_unknown_part_is_rejected(part: str) -> None:
    with pytest.raises(ValueError, match=f"'cifar10:{part}' is unknown; expected cifar10, or cifar10:1 to cifar10:5"):
        load_dataset(f"cifar10:{part}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no xz", "not a whole xz file"),
        (lzma.compress(batch(1))[:-8], "not a whole xz file"),
        (lzma.compress(batch(1)[:-1]), "12291 bytes .*; expected 12292, 4 records of 3073"),
        (lzma.compress(batch(1) * 2), "24584 bytes .*; expected 12292"),
        (lzma.compress(batch(10)), "a label 10; expected 0 to 9"),
    ],
)
def test_a_corrupt_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path)
    (tmp_path / "data_batch_3.bin.xz").write_bytes(content)
    with pytest.raises(DatasetCorrupt, match=f"data_batch_3.bin.xz: {message}"):
        load_dataset("cifar10", data_dir=tmp_path)


def test_the_real_data(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "RECORDS", 10_000)
    data = load_dataset("cifar10:1")
    assert data.train.inputs.shape == data.test.inputs.shape == (10_000, 3, 32, 32)
    assert data.train.targets[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert torch.bincount(data.test.targets).tolist() == [1000] * 10
    means: npt.NDArray[np.float32] = data.train.inputs.mean(dim=(0, 2, 3)).numpy()
    assert np.abs(means).max() < 1e-4
