"""Load data sets by name: embedded, read from files, downloaded from the Hugging Face hub, or built by user code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from onebasin.core.references import build
from onebasin.learning.data.examples import Dataset, DatasetCorrupt, DatasetNotFound, Split
from onebasin.learning.data.sources import cifar, digits, har, mnist, shakespeare
from onebasin.learning.data.sources.data_files import DataFolders

__all__ = ["DATASETS", "Dataset", "DatasetCorrupt", "DatasetNotFound", "Split", "load_dataset"]

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "digits": "8x8 scans of handwritten digits, 1,437 + 360, embedded",
        "fashion-mnist": "28x28 images of clothes, 60,000 + 10,000, 10 classes",
        "mnist": "28x28 handwritten digits, 60,000 + 10,000, 10 classes",
        "cifar10": "32x32 colour images, 50,000 + 10,000, 10 classes (cifar10:N = the first N of 5 batches)",
        "har": "smartphone motion, 9 channels x 128 steps, 21 people for training, 9 others for testing, 6 classes "
        "(har:moving, har:still = 3 of them each)",
        "shakespeare": "next character in sequences of 80, 141 speaking roles, 65 characters",
    }
)


def load_dataset(name: str, *, data_dir: Path | None = None, cache_dir: Path | None = None) -> Dataset:
    """Load a data set by name, or call a user's "package.module:factory" that returns a Dataset.

    The files are searched in `data_dir`, then in `cache_dir`, then on the Hugging Face hub; files from the hub are
    stored in the cache.
    data_dir: default $ONEBASIN_DATA.
    cache_dir: default $ONEBASIN_CACHE, else ~/.cache/onebasin.
    Raises DatasetNotFound, DatasetCorrupt, and ValueError for an unknown name or a factory that does not return a
    Dataset.
    """
    folders = DataFolders.from_environment(data_dir, cache_dir)
    base, _, part = name.partition(":")
    if base == "cifar10":
        return cifar.load(part, folders)
    if base == "har":
        return har.load(part, folders)
    if part:
        return _from_factory(name)
    match name:
        case "digits":
            return digits.load()
        case "mnist" | "fashion-mnist":
            return mnist.load(name, folders)
        case "shakespeare":
            return shakespeare.load(folders)
    raise ValueError(f"dataset: {name!r} is unknown; expected one of {', '.join(DATASETS)}, or package.module:factory")


def _from_factory(reference: str) -> Dataset:
    dataset = build(reference)
    if not isinstance(dataset, Dataset):
        raise ValueError(f"dataset: {reference!r} returned a {type(dataset).__name__}; expected onebasin's Dataset")
    return dataset
