"""UCI HAR: both file layouts, the split by person, and no half window in both splits."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from onebasin.learning.data.load import Dataset, DatasetCorrupt, DatasetNotFound, load_dataset
from onebasin.learning.data.sources import har

pytestmark = pytest.mark.usefixtures("offline")

PERSON = np.array([1, 1, 1, 7, 7, 7, 2, 2, 2], dtype=np.uint8)
ACTIVITY = np.array([0, 0, 5, 1, 1, 1, 2, 3, 4], dtype=np.uint8)
TEST = PERSON == 2


def recording(seed: int) -> npt.NDArray[np.float32]:
    """Three windows of one continuous recording: each starts with the second half of the previous one."""
    samples = np.random.default_rng(seed).normal(size=(4 * 64, 9)).astype(np.float32)
    return np.stack([samples[start : start + 128] for start in (0, 64, 128)])


def windows() -> npt.NDArray[np.float32]:
    return np.concatenate([recording(seed) for seed in range(3)])


def write_arrays(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"x": windows(), "y": ACTIVITY, "subject": PERSON, "official_test": TEST} | changes
    path = folder / har.ARRAYS
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def write_published(folder: Path) -> None:
    x = windows()
    for part, chosen in (("train", ~TEST), ("test", TEST)):
        inner = folder / part / "Inertial Signals"
        inner.mkdir(parents=True)
        np.savetxt(folder / part / f"y_{part}.txt", ACTIVITY[chosen] + 1, fmt="%d")
        np.savetxt(folder / part / f"subject_{part}.txt", PERSON[chosen], fmt="%d")
        for channel, signal in enumerate(har.SIGNALS):
            np.savetxt(inner / f"{signal}_{part}.txt", x[chosen, :, channel], fmt=" %.9e")


def test_windows_owners_and_activities(tmp_path: Path) -> None:
    write_arrays(tmp_path / "uci-har")
    data = load_dataset("har", data_dir=tmp_path)
    assert data.train.inputs.shape == (6, 9, 128)
    assert data.train.targets.tolist() == [0, 0, 5, 1, 1, 1]
    assert data.test.targets.tolist() == [2, 3, 4]
    assert data.train.owners is not None
    assert data.test.owners is not None
    assert [data.owner_names[owner] for owner in data.train.owners] == ["person 1"] * 3 + ["person 7"] * 3
    assert [data.owner_names[owner] for owner in data.test.owners] == ["person 2"] * 3
    assert data.class_names[5] == "laying"


def test_a_part_has_three_activities_and_its_own_statistics(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    whole, moving, still = (load_dataset(name, data_dir=tmp_path) for name in ("har", "har:moving", "har:still"))
    assert (moving.name, still.name) == ("har:moving", "har:still")
    assert moving.class_names + still.class_names == whole.class_names
    assert (moving.train.targets.tolist(), moving.test.targets.tolist()) == ([0, 0, 1, 1, 1], [2])
    assert (still.train.targets.tolist(), still.test.targets.tolist()) == ([2], [0, 1])
    assert moving.train.owners is not None
    assert [moving.owner_names[owner] for owner in moving.train.owners] == ["person 1"] * 2 + ["person 7"] * 3
    assert torch.allclose(moving.train.inputs.mean(dim=(0, 2)), torch.zeros(9), atol=1e-6)
    assert still.compressed_bytes < moving.compressed_bytes < whole.compressed_bytes


def test_an_unknown_part_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'har:asleep' is unknown; expected har, har:moving or har:still"):
        load_dataset("har:asleep")


def test_channels_are_normalised_with_the_training_statistics(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    data = load_dataset("har", data_dir=tmp_path)
    train = windows()[~TEST]
    mean, deviation = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    expected = (windows()[TEST] - mean) / deviation
    assert np.allclose(data.test.inputs.numpy().transpose(0, 2, 1), expected, atol=1e-5)
    assert torch.allclose(data.train.inputs.mean(dim=(0, 2)), torch.zeros(9), atol=1e-6)


def test_the_published_folder_gives_equal_data(tmp_path: Path) -> None:
    write_arrays(tmp_path / "arrays")
    write_published(tmp_path / "text" / "UCI HAR Dataset")
    arrays = load_dataset("har", data_dir=tmp_path / "arrays")
    text = load_dataset("har", data_dir=tmp_path / "text")
    for a, b in ((arrays.train, text.train), (arrays.test, text.test)):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
        assert a.owners is not None
        assert b.owners is not None
        assert torch.equal(a.owners, b.owners)
    assert arrays.compressed_bytes == text.compressed_bytes


def test_compressed_size_counts_repeated_halves_once(tmp_path: Path) -> None:
    write_arrays(tmp_path / "overlapping")
    independent = windows()
    independent[~TEST] = np.random.default_rng(9).normal(size=(6, 128, 9)).astype(np.float32)
    write_arrays(tmp_path / "independent", x=independent)
    overlapping, separate = (
        load_dataset("har", data_dir=tmp_path / name).compressed_bytes for name in ("overlapping", "independent")
    )
    # Two recordings of 4 halves against six windows of 2 halves; equal amounts of noise compress equally.
    assert overlapping / separate == pytest.approx(8 / 12, rel=0.05)


def bad_x(at: tuple[int, ...], value: float) -> npt.NDArray[np.float32]:
    x = windows()
    x[at] = value
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": None}, "lacks subject; expected x, y, subject, official_test"),
        ({"x": windows()[:, :64]}, r"windows \[9, 64, 9\]; expected \[9, 128, 9\]"),
        ({"x": windows().astype(np.float64)}, "x is float64, official_test bool; expected float32 and bool"),
        ({"x": bad_x((4, 5, 6), np.nan)}, "a signal is not finite"),
        ({"y": ACTIVITY + 1}, "activity from 1 to 6; expected 0 to 5"),
        ({"y": ACTIVITY[:, None]}, r"activity \[9, 1\]; expected one for each of 9 windows"),
        ({"subject": PERSON[:-1]}, r"person \[8\]; expected one for each of 9 windows"),
        ({"subject": PERSON * 30}, "person from 30 to 210; expected 1 to 30"),
        ({"official_test": PERSON == 9}, "0 test windows of 9"),
        ({"official_test": np.arange(9) > 4}, r"people \[7\] are in both parts; expected each in one"),
    ],
)
def test_a_corrupt_archive_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_arrays(tmp_path, **changes)
    with pytest.raises(DatasetCorrupt, match=rf"uci_har_inertial.npz: {message}"):
        load_dataset("har", data_dir=tmp_path)


def test_a_truncated_archive_and_a_pickle_are_rejected(tmp_path: Path) -> None:
    path = write_arrays(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetCorrupt, match=r"uci_har_inertial\.npz: not a readable npz file"):
        load_dataset("har", data_dir=tmp_path)
    write_arrays(tmp_path, y=np.array([{}] * 9, dtype=object))
    with pytest.raises(DatasetCorrupt, match=r"uci_har_inertial\.npz: not a readable npz file"):
        load_dataset("har", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train/y_train.txt", "1\n2\n", "6 rows; expected 2"),
        ("test/Inertial Signals/total_acc_z_test.txt", "1 2 3\n" * 3, "3 numbers a row; expected 128"),
        ("test/Inertial Signals/total_acc_z_test.txt", "one two\n", "not a table of numbers"),
    ],
)
def test_a_corrupt_text_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    write_published(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(DatasetCorrupt, match=message):
        load_dataset("har", data_dir=tmp_path)


def test_a_missing_text_file_is_named(tmp_path: Path) -> None:
    write_published(tmp_path)
    (tmp_path / "train/Inertial Signals/body_gyro_y_train.txt").unlink()
    with pytest.raises(DatasetNotFound, match=r"lacks train/Inertial Signals/body_gyro_y_train\.txt"):
        load_dataset("har", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def halves(data: Dataset) -> tuple[set[bytes], set[bytes]]:
    def of(inputs: torch.Tensor) -> set[bytes]:
        return {half.tobytes() for window in inputs.numpy() for half in (window[:, :64], window[:, 64:])}

    return of(data.train.inputs), of(data.test.inputs)


def test_no_half_window_is_shared(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    train, test = halves(load_dataset("har", data_dir=tmp_path))
    assert (len(train), len(test)) == (8, 4), "halves repeat within a part"
    assert not train & test


def test_the_real_data_shares_no_half_window(real_data: Path) -> None:
    data = load_dataset("har")
    assert (len(data.train), len(data.test)) == (7352, 2947)
    assert data.train.owners is not None
    assert data.test.owners is not None
    assert sorted({int(owner) + 1 for owner in data.test.owners}) == [2, 4, 9, 10, 12, 13, 18, 20, 24]
    assert not set(data.train.owners.tolist()) & set(data.test.owners.tolist())
    train, test = halves(data)
    assert len(train) < 2 * 7352, "halves repeat within the training part"
    assert not train & test
