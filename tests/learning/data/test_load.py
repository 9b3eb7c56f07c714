"""Loading by name: the embedded data set, a user's own, and unknown names."""

from pathlib import Path

import pytest
import torch

from onebasin.learning.data.load import DATASETS, Dataset, load_dataset


def test_digits(digits: Dataset) -> None:
    assert (len(digits.train), len(digits.test), digits.classes) == (1437, 360, 10)
    assert digits.train.inputs.shape == (1437, 1, 8, 8)
    assert (digits.source, digits.owner_names, digits.sequence) == ("embedded", (), False)
    assert digits.train.inputs.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert digits.train.inputs.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    # The split is stratified: a fifth of the 174 to 183 scans of each digit is in the test split.
    assert set(torch.bincount(digits.test.targets).tolist()) <= {35, 36, 37}
    assert 20_000 < digits.compressed_bytes < 1437 * 65


def test_the_split_of_digits_is_fixed(digits: Dataset) -> None:
    again = load_dataset("digits")
    assert torch.equal(again.train.inputs, digits.train.inputs)
    assert digits.test.targets[:8].tolist() == [7, 6, 3, 7, 7, 3, 2, 8]
    scans = {scan.numpy().tobytes() for scan in digits.train.inputs}
    assert not scans & {scan.numpy().tobytes() for scan in digits.test.inputs}


@pytest.mark.parametrize("name", ["fmnist", "", "digits:", "Digits"])
def test_an_unknown_name_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match=f"dataset: '{name}' is unknown; expected one of digits, fashion-mnist"):
        load_dataset(name)


def test_every_name_has_a_one_line_description() -> None:
    assert list(DATASETS) == ["digits", "fashion-mnist", "mnist", "cifar10", "har", "shakespeare"]
    assert all(line and "\n" not in line for line in DATASETS.values())


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `their.data` in the working directory."""
    package = tmp_path / "their"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(
        "import torch\n"
        "from onebasin.learning.data.load import Dataset, Split\n"
        "def two_points():\n"
        "    split = Split(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]))\n"
        "    return Dataset('points', split, split, ('low', 'high'), (), 8, 'their.data:two_points')\n"
        "def nothing():\n"
        "    return None\n"
        "number = 7\n"
    )
    (package / "broken.py").write_text("raise RuntimeError('half written')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("user_module")
def test_a_users_own_factory() -> None:
    data = load_dataset("their.data:two_points")
    assert (data.name, data.class_names, len(data.train)) == ("points", ("low", "high"), 2)


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their.data:nothing", "'their.data:nothing' returned a NoneType; expected onebasin's Dataset"),
        ("their.data:number", "'their.data:number' is a int; expected something callable"),
        ("their.data:missing", "'their.data' has no 'missing'"),
        ("their.absent:data", r"module 'their.absent' cannot be imported \(ModuleNotFoundError"),
        ("their.broken:data", r"module 'their.broken' cannot be imported \(RuntimeError: half written\)"),
        (":data", 'expected "package.module:factory"'),
    ],
)
def test_a_factory_that_returns_no_dataset_is_rejected(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_dataset(name)
