"""Randomly changed files: each is refused with an error that names it, or gives a model; nothing else happens."""

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


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    data[begin : begin + rng.choice((0, 1, 4, 40))] = rng.randbytes(rng.choice((1, 4, 40)))


def delete(data: bytearray, rng: random.Random) -> None:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.choice((1, 4, len(data)))]


def duplicate(data: bytearray, rng: random.Random) -> None:
    begin, end = sorted(rng.randrange(len(data)) for _ in range(2))
    data[end:end] = data[begin:end]


def change_digits(data: bytearray, rng: random.Random) -> None:
    """Replace digits, in the description for instance, so that the lengths stay valid."""
    positions = [position for position in range(HEADER, len(data)) if chr(data[position]).isdigit()]
    for _ in range(rng.choice((1, 1, 3))):
        data[rng.choice(positions)] = ord(rng.choice("0123456789"))


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    overwrite,
    delete,
    duplicate,
    change_digits,
)


def outcomes(
    original: SeedMask,
    example: torch.Tensor,
    count: int,
    folder: Path,
    model: nn.Module | None = None,
    backbone: Path | None = None,
) -> Counter[str]:
    """Load `count` changed files, most of them with a valid checksum, and count the outcomes."""
    rng, counts = random.Random(0), Counter[str]()
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
            counts["refused" if named else "refused without a name"] += 1
            continue
        assert loaded(example).shape == (1, 10)
        counts["same" if whole == data else "another model"] += 1
    return counts


def original() -> tuple[SeedMask, torch.Tensor]:
    options = {"hidden": [12, 6], "norm": "batch"}
    return file_of(built_in("mlp", (1, 4, 4), 10, options), "mlp", (1, 4, 4), options), torch.randn(1, 1, 4, 4)


def over_a_backbone(folder: Path) -> tuple[SeedMask, Path]:
    """Return a mask over trained weights, with its own last layer, and the file of these weights."""
    file, _ = original()
    trained = built_in("mlp", (1, 4, 4), 10, file.description.options)
    safetensors.torch.save_file(trained.state_dict(), folder / "trained.safetensors")
    layers = masked_layers(trained, backbone=True)
    description = file.description.model_copy(update={"backbone": digest_of(trained.state_dict()), "layers": layers})
    masks = {name: file.masks[name] for name in layers}
    return replace(file, description=description, masks=masks, buffers=encode_unmasked(trained, description)), (
        folder / "trained.safetensors"
    )


def test_hundreds_of_changed_files(tmp_path: Path) -> None:
    file, example = original()
    counts = outcomes(file, example, 300, tmp_path)
    assert set(counts) <= {"refused", "another model", "same"}, counts
    assert counts["refused"] > 270, "changes of the statistics, and of the last layer, are refused as well"


def test_hundreds_of_changed_files_over_a_backbone(tmp_path: Path) -> None:
    file, trained = over_a_backbone(tmp_path)
    counts = outcomes(file, torch.randn(1, 1, 4, 4), 300, tmp_path, backbone=trained)
    assert set(counts) <= {"refused", "another model", "same"}, counts
    assert counts["refused"] > 270, "changes of the statistics, and of the last layer, are refused as well"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["built in", "own", "backbone"])
def test_ten_thousand_changed_files(what: str, tmp_path: Path) -> None:
    (file, example), model, trained = original(), None, None
    if what == "own":
        model = built_in("mlp", (1, 4, 4), 10, {"hidden": [12, 6], "norm": "batch"})
    if what == "backbone":
        file, trained = over_a_backbone(tmp_path)
    counts = outcomes(file, example, 10_000, tmp_path, model, trained)
    assert set(counts) <= {"refused", "another model", "same"}, counts
    print(dict(counts))
    assert counts["refused"] > 9_000
