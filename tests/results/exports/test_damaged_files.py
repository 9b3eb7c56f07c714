"""Files that were changed at random: each is either refused by name or a model; none does anything else."""

import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.results.exports.test_loading import file_of
from torch import nn

import onebasin as ob
from onebasin.learning.models import built_in
from onebasin.learning.pretrained import digest_of
from onebasin.results.exports.rebuilding import encode_unmasked, masked_layers
from onebasin.results.exports.seed_mask import SeedMask

HEADER = 13


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def put(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    data[begin : begin + rng.choice((0, 1, 4, 40))] = rng.randbytes(rng.choice((1, 4, 40)))


def cut(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.choice((1, 4, len(data)))]


def double(data: bytearray, rng: random.Random) -> None:
    begin, end = sorted(rng.randrange(len(data)) for _ in range(2))
    data[end:end] = data[begin:end]


def digit(data: bytearray, rng: random.Random) -> None:
    """Another number of the description, and as long: the structure stays whole."""
    places = [at for at in range(HEADER, len(data)) if chr(data[at]).isdigit()]
    for _ in range(rng.choice((1, 1, 3))):
        data[rng.choice(places)] = ord(rng.choice("0123456789"))


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, put, cut, double, digit)


def outcomes(
    original: SeedMask,
    example: torch.Tensor,
    count: int,
    folder: Path,
    model: nn.Module | None = None,
    backbone: Path | None = None,
) -> Counter[str]:
    """Load so many changed files, most with a checksum that fits; count what came of it."""
    rng, found = random.Random(0), Counter[str]()
    data, path = original.to_bytes(), folder / "changed.obm"
    for _ in range(count):
        changed = bytearray(data[:-4])
        rng.choice(CHANGES)(changed, rng)
        whole = bytes(changed) + (data[-4:] if rng.random() < 0.1 else struct.pack("<I", zlib.crc32(changed)))
        path.write_bytes(whole)
        try:
            loaded = ob.load(path, model, backbone)
        except ob.ModelFileError as error:
            named = str(error).startswith(f"{path}: ")
            found["refused" if named else "refused without a name"] += 1
            continue
        assert loaded(example).shape == (1, 10)
        found["same" if whole == data else "another model"] += 1
    return found


def original() -> tuple[SeedMask, torch.Tensor]:
    options = {"hidden": [12, 6], "norm": "batch"}
    return file_of(built_in("mlp", (1, 4, 4), 10, options), "mlp", (1, 4, 4), options), torch.randn(1, 1, 4, 4)


def over_a_backbone(folder: Path) -> tuple[SeedMask, Path]:
    """A mask over trained weights, with a last layer of its own, and the file that the weights are in."""
    file, _ = original()
    trained = built_in("mlp", (1, 4, 4), 10, file.description.options)
    safetensors.torch.save_file(trained.state_dict(), folder / "trained.safetensors")
    layers = masked_layers(trained, backbone=True)
    described = file.description.model_copy(
        update={"backbone": digest_of(trained.state_dict()), "head": "uniform 6", "layers": layers}
    )
    masks = {name: file.masks[name] for name in layers}
    return replace(file, description=described, masks=masks, buffers=encode_unmasked(trained, described)), (
        folder / "trained.safetensors"
    )


def test_some_hundred_changed_files(tmp_path: Path) -> None:
    file, example = original()
    found = outcomes(file, example, 300, tmp_path)
    assert set(found) <= {"refused", "another model", "same"}, found
    assert found["refused"] > 270, "changes of the statistics, and of the last layer, are refused as well"


def test_some_hundred_changed_files_over_a_backbone(tmp_path: Path) -> None:
    file, trained = over_a_backbone(tmp_path)
    found = outcomes(file, torch.randn(1, 1, 4, 4), 300, tmp_path, backbone=trained)
    assert set(found) <= {"refused", "another model", "same"}, found
    assert found["refused"] > 270, "changes of the statistics, and of the last layer, are refused as well"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["built in", "own", "backbone"])
def test_ten_thousand_changed_files(what: str, tmp_path: Path) -> None:
    (file, example), model, trained = original(), None, None
    if what == "own":
        model = built_in("mlp", (1, 4, 4), 10, {"hidden": [12, 6], "norm": "batch"})
    if what == "backbone":
        file, trained = over_a_backbone(tmp_path)
    found = outcomes(file, example, 10_000, tmp_path, model, trained)
    assert set(found) <= {"refused", "another model", "same"}, found
    print(dict(found))
    assert found["refused"] > 9_000
