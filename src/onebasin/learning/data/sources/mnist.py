"""MNIST and Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 + 10,000 gray 28x28 images in four IDX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from onebasin.learning.data.examples import Dataset, DatasetCorrupt, Split
from onebasin.learning.data.sources import hub
from onebasin.learning.data.sources.data_files import DataFolders, FileSet, locate
from onebasin.learning.data.sources.idx import read_idx, write_idx_gz
from onebasin.learning.data.sources.pixels import compressed_size, normalise

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
}  # fmt: skip
FOLDERS = {
    "mnist": ("mnist", "mnist/raw", "MNIST/raw"),
    "fashion-mnist": ("fashion-mnist", "fashion-mnist/raw", "FashionMNIST/raw"),
}
REPOSITORIES = {
    "mnist": ("ylecun/mnist", "mnist"),
    "fashion-mnist": ("zalando-datasets/fashion_mnist", "fashion_mnist"),
}
# Both data sets use the same file names. The counts of the training labels identify which one a folder contains.
LABEL_COUNTS = {
    "mnist": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "fashion-mnist": (6000,) * 10,
}


def load(name: str, folders: DataFolders) -> Dataset:
    """Load `mnist` or `fashion-mnist` from the four IDX files, gzipped or plain.

    `compressed_bytes` is the size of the two training files as gzip files, or deflated if they are plain.
    Raises DatasetNotFound, DatasetCorrupt.
    """
    found = locate(
        name,
        [FileSet(FILES, (".gz", ""))],
        folders,
        FOLDERS[name],
        download=lambda: _download(name, folders.cache_dir / name),
        remedy=f"put the four files into DIR/{name}/ and set ONEBASIN_DATA=DIR; "
        "or, where there is internet, pip install 'onebasin[hub]'",
    )
    train_images, train_labels = _read_pair(found.paths[TRAIN_IMAGES], found.paths[TRAIN_LABELS])
    test_images, test_labels = _read_pair(found.paths[TEST_IMAGES], found.paths[TEST_LABELS])
    _check_identity(name, found.paths[TRAIN_LABELS], train_labels)
    train, test = normalise(train_images, test_images)
    return Dataset(
        name=name,
        train=Split(train, torch.from_numpy(train_labels.astype(np.int64))),
        test=Split(test, torch.from_numpy(test_labels.astype(np.int64))),
        class_names=CLASSES[name],
        owner_names=(),
        compressed_bytes=compressed_size(found.paths[TRAIN_IMAGES]) + compressed_size(found.paths[TRAIN_LABELS]),
        source=found.source,
    )


def _read_pair(images_path: Path, labels_path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (28, 28) or len(images) == 0:
        raise DatasetCorrupt(f"{images_path}: sizes {list(images.shape)}; expected [n, 28, 28] with n >= 1")
    if len(labels) != len(images):
        raise DatasetCorrupt(f"{labels_path}: {len(labels)} labels; expected {len(images)} as in {images_path.name}")
    if labels.max() > 9:
        raise DatasetCorrupt(f"{labels_path}: a label {labels.max()}; expected 0 to 9")
    return images[:, None], labels


def _check_identity(name: str, path: Path, labels: npt.NDArray[np.uint8]) -> None:
    counts = tuple(np.bincount(labels, minlength=10).tolist())
    for other, known in LABEL_COUNTS.items():
        if other != name and counts == known:
            raise DatasetCorrupt(f"{path}: these are the labels of {other}; expected those of {name}")


def _download(name: str, folder: Path) -> str:
    repository, config = REPOSITORIES[name]
    for part, images_file, labels_file in (
        ("train", TRAIN_IMAGES, TRAIN_LABELS),
        ("test", TEST_IMAGES, TEST_LABELS),
    ):
        table = hub.download(repository, f"{config}/{part}-00000-of-00001.parquet")
        images, labels = hub.read_images(table, "image", "label", mode="L")
        write_idx_gz(folder / f"{images_file}.gz", images)
        write_idx_gz(folder / f"{labels_file}.gz", labels)
    return repository
