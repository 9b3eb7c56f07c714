"""A fake hub: files are downloaded once, cached in their standard format, and then read from the cache."""

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

Requests = list[tuple[str, str, str | None]]


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    """A fake hub whose repositories are folders of tmp_path/hub. Returns the list of requests, in order."""
    calls: Requests = []

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


def png(image: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def write_images(path: Path, column: str, images: npt.NDArray[np.uint8], labels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(image), "path": f"{index}.png"} for index, image in enumerate(images)]
    pyarrow.parquet.write_table(pyarrow.table({column: cells, "label": pyarrow.array(labels, pyarrow.int64())}), path)


def random_images(seed: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def load_twice(name: str, cache: Path, requests: Requests, expected: int) -> None:
    """Load twice; the second time reads the cache, makes no request and gives equal data."""
    first = load_dataset(name, data_dir=cache / "no data", cache_dir=cache)
    assert first.source.startswith("hub:")
    assert len(requests) == expected
    second = load_dataset(name, data_dir=cache / "no data", cache_dir=cache)
    assert second.source.startswith(str(cache))
    assert len(requests) == expected
    assert first.compressed_bytes == second.compressed_bytes
    for a, b in ((first.train, second.train), (first.test, second.test)):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
    assert not list(cache.rglob("*.part"))


@pytest.mark.parametrize(
    ("name", "repository", "folder"),
    [("mnist", "ylecun/mnist", "mnist"), ("fashion-mnist", "zalando-datasets/fashion_mnist", "fashion_mnist")],
)
def test_gray_images_are_cached_as_idx_files(
    tmp_path: Path, requests: Requests, name: str, repository: str, folder: str
) -> None:
    train, test = random_images(0, 5, 28, 28), random_images(1, 3, 28, 28)
    repository_folder = tmp_path / "hub" / repository / folder
    write_images(repository_folder / "train-00000-of-00001.parquet", "image", train, [0, 1, 2, 3, 9])
    write_images(repository_folder / "test-00000-of-00001.parquet", "image", test, [4, 5, 6])
    cache = tmp_path / "cache"
    load_twice(name, cache, requests, expected=2)
    assert (read_idx(cache / name / "train-images-idx3-ubyte.gz", 3) == train).all()
    assert (read_idx(cache / name / "t10k-images-idx3-ubyte.gz", 3) == test).all()
    assert read_idx(cache / name / "train-labels-idx1-ubyte.gz", 1).tolist() == [0, 1, 2, 3, 9]


def test_colour_images_are_cached_as_cifar_batches(
    tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "RECORDS", 2)
    train, test = random_images(0, 10, 32, 32, 3), random_images(1, 2, 32, 32, 3)
    repository_folder = tmp_path / "hub" / "uoft-cs/cifar10" / "plain_text"
    write_images(repository_folder / "train-00000-of-00001.parquet", "img", train, list(range(10)))
    write_images(repository_folder / "test-00000-of-00001.parquet", "img", test, [7, 8])
    cache = tmp_path / "cache"
    load_twice("cifar10", cache, requests, expected=2)
    data = load_dataset("cifar10", data_dir=cache)
    assert data.train.targets.tolist() == list(range(10))
    scale = data.train.inputs.std(dim=(0, 2, 3), correction=0)
    restored = data.train.inputs * torch.from_numpy(train).float().std(dim=(0, 1, 2), correction=0)[:, None, None]
    restored += torch.from_numpy(train).float().mean(dim=(0, 1, 2))[:, None, None]
    assert torch.allclose(scale, torch.ones(3), atol=1e-5)
    assert torch.equal(restored.round().to(torch.uint8), torch.from_numpy(train).permute(0, 3, 1, 2))


def test_har_text_files_are_cached_as_one_archive(tmp_path: Path, requests: Requests) -> None:
    test_har_files.write_published(tmp_path / "hub" / har.REPOSITORY)
    cache = tmp_path / "cache"
    load_twice("har", cache, requests, expected=22)
    assert [path.name for path in cache.rglob("*.npz")] == ["uci_har_inertial.npz"]


def write_text(folder: Path, content: str) -> None:
    (folder / "data").mkdir(parents=True)
    cuts = {"train": content[:-20], "validation": content[-20:-10], "test": content[-10:]}
    for part, text in cuts.items():
        pyarrow.parquet.write_table(pyarrow.table({"text": [text]}), folder / f"data/{part}-00000-of-00001.parquet")


def test_the_three_parts_of_shakespeare_are_cached_as_one_text(
    tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = test_shakespeare_file.PLAY
    monkeypatch.setattr(shakespeare, "BYTES", len(content))
    monkeypatch.setattr(shakespeare, "SHA256", hashlib.sha256(content.encode()).hexdigest())
    write_text(tmp_path / "hub" / shakespeare.REPOSITORY, content)
    cache = tmp_path / "cache"
    load_twice("shakespeare", cache, requests, expected=3)
    assert (cache / "shakespeare" / "input.txt").read_text() == content
    assert {revision for _, _, revision in requests} == {shakespeare.REVISION}


def test_a_text_with_another_digest_is_not_cached(tmp_path: Path, requests: Requests) -> None:
    write_text(tmp_path / "hub" / shakespeare.REPOSITORY, "ROMEO:\n" + "To be or not to be. " * 100)
    with pytest.raises(DatasetCorrupt, match=r"the text's SHA-256 is .*; expected 86c4e6aa"):
        load_dataset("shakespeare", data_dir=tmp_path / "none", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def break_column(path: Path) -> None:
    write_images(path, "scan", random_images(0, 2, 28, 28), [0, 1])


def break_image(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"image": [{"bytes": b"no image"}], "label": [0]}), path)


def break_sizes(path: Path) -> None:
    cells = [{"bytes": png(random_images(0, size, size))} for size in (28, 27)]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": [0, 1]}), path)


def break_label(path: Path) -> None:
    write_images(path, "image", random_images(0, 1, 28, 28), [-1])


def break_file(path: Path) -> None:
    path.write_bytes(b"PAR1 and no more")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_column, r"columns \['scan', 'label'\]; expected \['image', 'label'\]"),
        (break_image, "a row cannot be decoded"),
        (break_sizes, "a row cannot be decoded"),
        (break_label, "a row cannot be decoded"),
        (break_file, "not a readable parquet file"),
    ],
)
@pytest.mark.usefixtures("requests")
def test_corrupt_downloads_are_rejected_and_not_cached(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "hub/ylecun/mnist/mnist/train-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    damage(path)
    with pytest.raises(DatasetCorrupt, match=f"train-00000-of-00001.parquet: {message}"):
        load_dataset("mnist", data_dir=tmp_path / "none", cache_dir=tmp_path / "cache")
    assert not list(tmp_path.rglob("*ubyte*"))


@pytest.mark.usefixtures("requests")
def test_a_file_that_the_hub_lacks_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFound, match=r"ylecun/mnist/mnist/train.*LocalEntryNotFoundError: nothing here"):
        load_dataset("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_an_unreachable_hub_is_reported(tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_has_address", lambda url: False)
    with pytest.raises(DatasetNotFound, match=r"https://\S+ cannot be reached from here"):
        load_dataset("mnist", data_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert len(requests) == 1, "the hub client's own cache is still searched"


@pytest.mark.parametrize(("package", "blocked"), [("huggingface_hub",) * 2, ("pillow", "PIL"), ("pyarrow",) * 2])
@pytest.mark.usefixtures("requests")
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, blocked: str
) -> None:
    repository_folder = tmp_path / "hub/ylecun/mnist/mnist"
    write_images(repository_folder / "train-00000-of-00001.parquet", "image", random_images(0, 1, 28, 28), [0])
    monkeypatch.setitem(__import__("sys").modules, blocked, None)
    with pytest.raises(DatasetNotFound, match=rf"optional package {package}: pip install 'onebasin\[hub\]'"):
        load_dataset("mnist", data_dir=tmp_path / "none", cache_dir=tmp_path / "cache")
