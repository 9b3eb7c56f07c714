"""UCI HAR (Anguita et al. 2013): smartphone motion of 30 people, in windows of 2.56 s that overlap by half.

The windows are split by person, as published: 21 people for training, 9 others for testing. A split by window is not
offered, because it would put halves of test windows into the training set.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from onebasin.learning.data.examples import Dataset, DatasetCorrupt, Split
from onebasin.learning.data.sources import hub
from onebasin.learning.data.sources.data_files import DataFolders, FileSet, atomic_replacement, locate

ARRAYS = "uci_har_inertial.npz"
SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
CLASSES = ("walking", "walking upstairs", "walking downstairs", "sitting", "standing", "laying")
PARTS = {"": (0, 1, 2, 3, 4, 5), "moving": (0, 1, 2), "still": (3, 4, 5)}
PEOPLE = 30
STEPS = 128
REPOSITORY = "udayl/UCI_HAR"

_FOLDERS = ("har", "uci-har", "UCI HAR Dataset", "har/UCI HAR Dataset", "uci-har/UCI HAR Dataset")


def _published_files(part: str) -> dict[str, str]:
    return {
        "activity": f"{part}/y_{part}.txt",
        "person": f"{part}/subject_{part}.txt",
        **{signal: f"{part}/Inertial Signals/{signal}_{part}.txt" for signal in SIGNALS},
    }


_PUBLISHED_FILES = tuple(file for part in ("train", "test") for file in _published_files(part).values())


@dataclass(frozen=True)
class _Windows:
    """All windows.

    x: float32 [n, 128, 9], the signals.
    activity: int64 [n], 0 to 5.
    person: int64 [n], 1 to 30.
    test: bool [n], whether the person is in the test split.
    """

    x: npt.NDArray[np.float32]
    activity: npt.NDArray[np.int64]
    person: npt.NDArray[np.int64]
    test: npt.NDArray[np.bool_]


def load(part: str, folders: DataFolders) -> Dataset:
    """Load windows [9 channels, 128 steps], normalised per channel with the training split's mean and deviation.

    The windows are read from uci_har_inertial.npz (x [n, 128, 9], y, subject, official_test), or from the published
    folder of text files. The owners are the people; no person is in both splits. `compressed_bytes` is the deflated
    size of the training signals, each repeated half once, as float32 in byte planes, and of the labels.
    part: "" for all six activities, "moving" for the first three, "still" for the last three (`har:moving`). A part
    has the windows and the statistics of its own activities only.
    Raises DatasetNotFound, DatasetCorrupt, and ValueError for another part.
    """
    if part not in PARTS:
        raise ValueError(f"dataset: 'har:{part}' is unknown; expected har, har:moving or har:still")
    found = locate(
        "har",
        [FileSet((ARRAYS,)), FileSet(_PUBLISHED_FILES)],
        folders,
        _FOLDERS,
        download=lambda: _download(folders.cache_dir / "har"),
        remedy="unpack UCI's 'Human Activity Recognition Using Smartphones' archive so that DIR/har/train and "
        "DIR/har/test are its folders, and set ONEBASIN_DATA=DIR; or, where there is internet, "
        "pip install 'onebasin[hub]'",
    )
    recorded = _read_arrays(found.paths[ARRAYS]) if ARRAYS in found.paths else _read_published(found.paths.__getitem__)
    windows = _select_activities(recorded, PARTS[part])
    train = ~windows.test
    mean = windows.x[train].mean(axis=(0, 1), dtype=np.float64)
    deviation = windows.x[train].std(axis=(0, 1), dtype=np.float64)
    inputs = ((windows.x - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32).transpose(0, 2, 1)

    def split(chosen: npt.NDArray[np.bool_]) -> Split:
        return Split(
            torch.from_numpy(np.ascontiguousarray(inputs[chosen])),
            torch.from_numpy(windows.activity[chosen]),
            torch.from_numpy(windows.person[chosen] - 1),
        )

    return Dataset(
        name=f"har:{part}" if part else "har",
        train=split(train),
        test=split(windows.test),
        class_names=tuple(CLASSES[activity] for activity in PARTS[part]),
        owner_names=tuple(f"person {index + 1}" for index in range(PEOPLE)),
        compressed_bytes=_compressed_size(windows.x[train], windows.activity[train]),
        source=found.source,
    )


def _read_arrays(path: Path) -> _Windows:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in ("x", "y", "subject", "official_test") if key not in archive]
            if missing:
                raise DatasetCorrupt(f"{path}: lacks {', '.join(missing)}; expected x, y, subject, official_test")
            x, y = archive["x"], archive["y"]
            person, test = archive["subject"], archive["official_test"]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DatasetCorrupt):
            raise
        raise DatasetCorrupt(f"{path}: not a readable npz file ({error})") from error
    if test.dtype != np.bool_ or x.dtype != np.float32:
        raise DatasetCorrupt(f"{path}: x is {x.dtype}, official_test {test.dtype}; expected float32 and bool")
    return _validated(path, _Windows(x, y.astype(np.int64), person.astype(np.int64), test))


def _read_published(path_of: Callable[[str], Path]) -> _Windows:
    parts = []
    for part in ("train", "test"):
        files = {key: path_of(name) for key, name in _published_files(part).items()}
        activity = _read_table(files["activity"], 1)[:, 0]
        person = _read_table(files["person"], 1)[:, 0]
        signals = [_read_table(files[signal], STEPS) for signal in SIGNALS]
        for key, rows in (("person", person), *zip(SIGNALS, signals, strict=True)):
            if len(rows) != len(activity):
                raise DatasetCorrupt(
                    f"{files[key]}: {len(rows)} rows; expected {len(activity)} as in {files['activity'].name}"
                )
        windows = _Windows(
            np.stack(signals, axis=2),
            activity.astype(np.int64) - 1,
            person.astype(np.int64),
            np.full(len(activity), part == "test"),
        )
        parts.append(windows)
    train, test = parts
    joined = _Windows(
        np.concatenate([train.x, test.x]),
        np.concatenate([train.activity, test.activity]),
        np.concatenate([train.person, test.person]),
        np.concatenate([train.test, test.test]),
    )
    return _validated(files["activity"].parent.parent, joined)


def _select_activities(windows: _Windows, activities: tuple[int, ...]) -> _Windows:
    """Select the windows of consecutive activities; their labels then start at 0."""
    chosen = np.isin(windows.activity, activities)
    return _Windows(
        windows.x[chosen], windows.activity[chosen] - activities[0], windows.person[chosen], windows.test[chosen]
    )


def _read_table(path: Path, columns: int) -> npt.NDArray[np.float32]:
    try:
        table = np.loadtxt(path, dtype=np.float32, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetCorrupt(f"{path}: not a table of numbers ({error})") from error
    if table.shape[1] != columns:
        raise DatasetCorrupt(f"{path}: {table.shape[1]} numbers a row; expected {columns}")
    return table


def _validated(path: Path, windows: _Windows) -> _Windows:
    count = len(windows.activity)
    if windows.x.shape != (count, STEPS, len(SIGNALS)):
        raise DatasetCorrupt(f"{path}: windows {list(windows.x.shape)}; expected {[count, STEPS, len(SIGNALS)]}")
    for what, values in (("activity", windows.activity), ("person", windows.person), ("part", windows.test)):
        if values.shape != (count,):
            raise DatasetCorrupt(f"{path}: {what} {list(values.shape)}; expected one for each of {count} windows")
    if windows.test.all() or not windows.test.any():
        raise DatasetCorrupt(f"{path}: {windows.test.sum()} test windows of {count}; expected people in both parts")
    for what, numbers, low, high in (
        ("activity", windows.activity, 0, len(CLASSES) - 1),
        ("person", windows.person, 1, PEOPLE),
    ):
        if numbers.min() < low or numbers.max() > high:
            raise DatasetCorrupt(f"{path}: {what} from {numbers.min()} to {numbers.max()}; expected {low} to {high}")
    both = np.intersect1d(windows.person[windows.test], windows.person[~windows.test])
    if len(both):
        raise DatasetCorrupt(f"{path}: people {both.tolist()} are in both parts; expected each in one")
    if not np.isfinite(windows.x).all():
        raise DatasetCorrupt(f"{path}: a signal is not finite; expected numbers")
    return windows


def _compressed_size(x: npt.NDArray[np.float32], activity: npt.NDArray[np.int64]) -> int:
    half = STEPS // 2
    # A window that continues the previous one starts with that window's second half.
    starts = np.ones(len(x), dtype=bool)
    starts[1:] = (x[1:, :half] != x[:-1, half:]).any(axis=(1, 2))
    unique = np.concatenate([x[starts, :half].reshape(-1, x.shape[2]), x[:, half:].reshape(-1, x.shape[2])])
    planes = np.ascontiguousarray(unique.T).view(np.uint8).reshape(-1, 4).T
    return len(zlib.compress(planes.tobytes(), 6)) + len(zlib.compress(activity.astype(np.uint8).tobytes(), 6))


def _download(folder: Path) -> str:
    windows = _read_published(lambda file: hub.download(REPOSITORY, file))
    with atomic_replacement(folder / ARRAYS) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            x=windows.x,
            y=windows.activity.astype(np.uint8),
            subject=windows.person.astype(np.uint8),
            official_test=windows.test,
        )
    return REPOSITORY
