"""Load data sets by name: embedded, read from files, downloaded from the Hugging Face hub, or built by user code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from onebasin.core.references import build
from onebasin.learning.data.examples import Dataset, DatasetCorrupt, DatasetNotFound, Split

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
    base, _, part = name.partition(":")
    if base in ("cifar10", "har") or name in DATASETS:
        return _from_reader(base, part, data_dir, cache_dir)
    if part:
        return _from_factory(name)
    raise ValueError(f"dataset: {name!r} is unknown; expected one of {', '.join(DATASETS)}, or package.module:factory")


def _from_reader(name: str, part: str, data_dir: Path | None, cache_dir: Path | None) -> Dataset:
    """Load a data set by its reader, which is imported here: a device that has its own data imports none."""
    from onebasin.learning.data.sources.data_files import DataFolders

    folders = DataFolders.from_environment(data_dir, cache_dir)
    match name:
        case "digits":
            from onebasin.learning.data.sources import digits

            return digits.load()
        case "cifar10":
            from onebasin.learning.data.sources import cifar

            return cifar.load(part, folders)
        case "har":
            from onebasin.learning.data.sources import har

            return har.load(part, folders)
        case "shakespeare":
            from onebasin.learning.data.sources import shakespeare

            return shakespeare.load(folders)
        case _:
            from onebasin.learning.data.sources import mnist

            return mnist.load(name, folders)


def _from_factory(reference: str) -> Dataset:
    dataset = build(reference)
    if not isinstance(dataset, Dataset):
        raise ValueError(f"dataset: {reference!r} returned a {type(dataset).__name__}; expected onebasin's Dataset")
    return dataset
