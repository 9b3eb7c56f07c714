"""The hub, played by files of its layout: fetched once, kept in the standard format, and never asked again."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from tests.learning.data import test_har_files, test_shakespeare_file

from onebasin.learning.data.load import DatasetCorrupt, DatasetNotFound, load_dataset
from onebasin.learning.data.sources import cifar, har, hub, shakespeare
from onebasin.learning.data.sources.idx import read_idx

Asked = list[tuple[str, str, str | None]]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A hub whose repositories are folders of tmp_path/hub; what it was asked for, in order."""
    calls: Asked = []

    def download(repository: str, file: str, *, repo_type: str, revision: str | None, local_files_only: bool) -> str:
        assert repo_type == "dataset"
        calls.append((repository, file, revision))
        path = tmp_path / "hub" / repository / file
        if not path.is_file():
            raise huggingface_hub.errors.LocalEntryNotFoundError("nothing here")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "_has_address", lambda url: True)
    return calls


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def write_pictures(path: Path, column: str, pictures: npt.NDArray[np.uint8], labels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(picture), "path": f"{index}.png"} for index, picture in enumerate(pictures)]
    pyarrow.parquet.write_table(pyarrow.table({column: cells, "label": pyarrow.array(labels, pyarrow.int64())}), path)


def pictures(seed: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def load_twice(name: str, cache: Path, asked: Asked, expected: int) -> None:
    """The second time the cache is enough, and gives the same."""
    first = load_dataset(name, data_dir=cache / "no data", cache_dir=cache)
    assert first.source.startswith("hub:")
    assert len(asked) == expected
    second = load_dataset(name, data_dir=cache / "no data", cache_dir=cache)
    assert second.source.startswith(str(cache))
    assert len(asked) == expected
    assert first.compressed_bytes == second.compressed_bytes
    for a, b in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize(
    ("name", "repository", "folder"),
    [("mnist", "ylecun/mnist", "mnist"), ("fashion-mnist", "zalando-datasets/fashion_mnist", "fashion_mnist")],
)
def test_gray_pictures_become_idx_files(tmp_path: Path, asked: Asked, name: str, repository: str, folder: str) -> None:
    train, test = pictures(0, 5, 28, 28), pictures(1, 3, 28, 28)
    there = tmp_path / "hub" / repository / folder
    write_pictures(there / "train-00000-of-00001.parquet", "image", train, [0, 1, 2, 3, 9])
    write_pictures(there / "test-00000-of-00001.parquet", "image", test, [4, 5, 6])
    cache = tmp_path / "cache"
    load_twice(name, cache, asked, expected=2)
    assert (read_idx(cache / name / "train-images-idx3-ubyte.gz", 3) == train).all()
    assert (read_idx(cache / name / "t10k-images-idx3-ubyte.gz", 3) == test).all()
    assert read_idx(cache / name / "train-labels-idx1-ubyte.gz", 1).tolist() == [0, 1, 2, 3, 9]


def test_colour_pictures_become_cifar_batches(tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "RECORDS", 2)
    train, test = pictures(0, 10, 32, 32, 3), pictures(1, 2, 32, 32, 3)
    there = tmp_path / "hub" / "uoft-cs/cifar10" / "plain_text"
    write_pictures(there / "train-00000-of-00001.parquet", "img", train, list(range(10)))
    write_pictures(there / "test-00000-of-00001.parquet", "img", test, [7, 8])
    cache = tmp_path / "cache"
    load_twice("cifar10", cache, asked, expected=2)
    data = load_dataset("cifar10", data_dir=cache)
    assert data.train.targets.tolist() == list(range(10))
    scale = data.train.inputs.std(dim=(0, 2, 3), correction=0)
    undone = data.train.inputs * torch.from_numpy(train).float().std(dim=(0, 1, 2), correction=0)[:, None, None]
    undone += torch.from_numpy(train).float().mean(dim=(0, 1, 2))[:, None, None]
    assert torch.allclose(scale, torch.ones(3), atol=1e-5)
    assert torch.equal(undone.round().to(torch.uint8), torch.from_numpy(train).permute(0, 3, 1, 2))


def test_har_text_becomes_one_archive(tmp_path: Path, asked: Asked) -> None:
    test_har_files.write_published(tmp_path / "hub" / har.REPOSITORY)
    cache = tmp_path / "cache"
    load_twice("har", cache, asked, expected=22)
    assert [path.name for path in cache.rglob("*.npz")] == ["uci_har_inertial.npz"]


def write_text(folder: Path, content: str) -> None:
    (folder / "data").mkdir(parents=True)
    cuts = {"train": content[:-20], "validation": content[-20:-10], "test": content[-10:]}
    for part, text in cuts.items():
        pyarrow.parquet.write_table(pyarrow.table({"text": [text]}), folder / f"data/{part}-00000-of-00001.parquet")


def test_the_three_parts_of_shakespeare_become_one_text(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = test_shakespeare_file.PLAY
    monkeypatch.setattr(shakespeare, "BYTES", len(content))
    monkeypatch.setattr(shakespeare, "SHA256", hashlib.sha256(content.encode()).hexdigest())
    write_text(tmp_path / "hub" / shakespeare.REPOSITORY, content)
    cache = tmp_path / "cache"
    load_twice("shakespeare", cache, asked, expected=3)
    assert (cache / "shakespeare" / "input.txt").read_text() == content
    assert {revision for _, _, revision in asked} == {shakespeare.REVISION}


def test_another_text_is_not_kept(tmp_path: Path, asked: Asked) -> None:
    write_text(tmp_path / "hub" / shakespeare.REPOSITORY, "ROMEO:\n" + "To be or not to be. " * 100)
    with pytest.raises(DatasetCorrupt, match=r"the text's SHA-256 is .*; expected 86c4e6aa"):
        load_dataset("shakespeare", data_dir=tmp_path / "none", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def break_column(path: Path) -> None:
    write_pictures(path, "picture", pictures(0, 2, 28, 28), [0, 1])


def break_picture(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"image": [{"bytes": b"no picture"}], "label": [0]}), path)


def break_sizes(path: Path) -> None:
    cells = [{"bytes": png(pictures(0, size, size))} for size in (28, 27)]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 1]}), path)


def break_label(path: Path) -> None:
    write_pictures(path, "image", pictures(0, 1, 28, 28), [-1])


def break_file(path: Path) -> None:
    path.write_bytes(b"PAR1 and no more")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_column, r"columns \['picture', 'label'\]; expected \['image', 'label'\]"),
        (break_picture, "a row cannot be decoded"),
        (break_sizes, "a row cannot be decoded"),
        (break_label, "a row cannot be decoded"),
        (break_file, "not a readable parquet file"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_the_hub_gives_is_checked(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "hub/ylecun/mnist/mnist/train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    damage(path)
    with pytest.raises(DatasetCorrupt, match=f"train-00000-of-00001.parquet: {message}"):
        load_dataset("mnist", data_dir=tmp_path / "none", cache_dir=tmp_path / "cache")
    assert not list(tmp_path.rglob("*ubyte*"))


@pytest.mark.usefixtures("asked")
def test_a_hub_that_lacks_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"ylecun/mnist/mnist/train.*LocalEntryNotFoundError: nothing here"):
        load_dataset("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_a_hub_out_of_reach_is_said_so(tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_has_address", lambda url: False)
    with pytest.raises(DatasetNotFound, match=r"https://\S+ cannot be reached from here"):
        load_dataset("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert len(asked) == 1, "the client's own cache is asked all the same"


@pytest.mark.parametrize(("package", "blocked"), [("huggingface_hub",) * 2, ("pillow", "PIL"), ("pyarrow",) * 2])
@pytest.mark.usefixtures("asked")
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, blocked: str
) -> None:
    there = tmp_path / "hub/ylecun/mnist/mnist"
    write_pictures(there / "train-00000-of-00001.parquet", "image", pictures(0, 1, 28, 28), [0])
    monkeypatch.setitem(__import__("sys").modules, blocked, None)
    with pytest.raises(DatasetNotFound, match=rf"optional package {package}: pip install 'onebasin\[hub\]'"):
        load_dataset("mnist", data_dir=tmp_path / "none", cache_dir=tmp_path / "cache")
