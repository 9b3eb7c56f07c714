"""CIFAR-10 (Krizhevsky 2009), binary version: records of one label byte and 3,072 bytes (red, green, blue planes)."""

from __future__ import annotations

import lzma
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from onebasin.learning.data.examples import Dataset, DatasetCorrupt, Split
from onebasin.learning.data.sources import hub
from onebasin.learning.data.sources.data_files import DataFolders, FileSet, atomic_replacement, locate
from onebasin.learning.data.sources.pixels import compressed_size, normalise

REPOSITORY = "uoft-cs/cifar10"
RECORDS = 10_000
BATCHES = 5
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_RECORD = 1 + 3 * 32 * 32
# The pixel above lies 32 bytes earlier. Differences to it compress better and faster than the bytes themselves.
_XZ_FILTERS = [{"id": lzma.FILTER_DELTA, "dist": 32}, {"id": lzma.FILTER_LZMA2, "preset": 0}]


def load(part: str, folders: DataFolders) -> Dataset:
    """Load CIFAR-10 from data_batch_1.bin ... data_batch_5.bin and test_batch.bin, plain or .xz.

    `compressed_bytes` is the size of the training batches as .xz files, or deflated if they are plain.
    part: "" for all five training batches; "1" to "5" for the first 1 to 5 of them (`cifar10:2`).
    Raises DatasetNotFound, DatasetCorrupt, and ValueError for another part.
    """
    if part not in ("", "1", "2", "3", "4", "5"):
        raise ValueError(f"dataset: 'cifar10:{part}' is unknown; expected cifar10, or cifar10:1 to cifar10:{BATCHES}")
    training = tuple(f"data_batch_{index + 1}.bin" for index in range(int(part or BATCHES)))
    found = locate(
        f"cifar10:{part}" if part else "cifar10",
        [FileSet((*training, "test_batch.bin"), (".xz", ""))],
        folders,
        ("cifar10", "cifar10/cifar-10-batches-bin", "cifar-10-batches-bin"),
        download=lambda: _download(folders.cache_dir / "cifar10"),
        remedy="put the files into DIR/cifar10/ and set ONEBASIN_DATA=DIR (with only the first N training batches, ask "
        "for cifar10:N); or, where there is internet, pip install 'onebasin[hub]'",
    )
    with ThreadPoolExecutor() as pool:
        batches = list(pool.map(_read_batch, (found.paths[file] for file in (*training, "test_batch.bin"))))
    records = np.concatenate(batches[:-1])
    train, test = normalise(_images(records), _images(batches[-1]))
    return Dataset(
        name=f"cifar10:{part}" if part else "cifar10",
        train=Split(train, torch.from_numpy(records[:, 0].astype(np.int64))),
        test=Split(test, torch.from_numpy(batches[-1][:, 0].astype(np.int64))),
        class_names=CLASSES,
        owner_names=(),
        compressed_bytes=sum(compressed_size(found.paths[file]) for file in training),
        source=found.source,
    )


def _read_batch(path: Path) -> npt.NDArray[np.uint8]:
    raw = path.read_bytes()
    if path.suffix == ".xz":
        try:
            raw = lzma.decompress(raw)
        except lzma.LZMAError as error:
            raise DatasetCorrupt(
                f"{path}: not a whole xz file ({error}); expected CIFAR-10's binary version"
            ) from error
    if len(raw) != RECORDS * _RECORD:
        raise DatasetCorrupt(
            f"{path}: {len(raw)} bytes (unpacked); expected {RECORDS * _RECORD}, {RECORDS} records of {_RECORD}"
        )
    records = np.frombuffer(raw, np.uint8).reshape(RECORDS, _RECORD)
    if records[:, 0].max() > 9:
        raise DatasetCorrupt(f"{path}: a label {records[:, 0].max()}; expected 0 to 9")
    return records


def _images(records: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return records[:, 1:].reshape(-1, 3, 32, 32)


def _download(folder: Path) -> str:
    for part, files in (
        ("train", [f"data_batch_{index + 1}.bin.xz" for index in range(BATCHES)]),
        ("test", ["test_batch.bin.xz"]),
    ):
        table = hub.download(REPOSITORY, f"plain_text/{part}-00000-of-00001.parquet")
        images, labels = hub.read_images(table, "img", "label", mode="RGB")
        if images.shape != (len(files) * RECORDS, 32, 32, 3):
            raise DatasetCorrupt(
                f"{table}: pictures {list(images.shape)}; expected {[len(files) * RECORDS, 32, 32, 3]}"
            )
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        records = np.concatenate([labels[:, None], planes], axis=1)
        for file, batch in zip(files, np.split(records, len(files)), strict=True):
            with atomic_replacement(folder / file) as temporary:
                temporary.write_bytes(lzma.compress(batch.tobytes(), filters=_XZ_FILTERS))
    return REPOSITORY
