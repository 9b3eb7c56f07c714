"""The seed + mask format: its documented bytes, its size, and the files that are refused."""

import struct
import zlib
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from onebasin.codecs.dense import Exact
from onebasin.core.layout import Layout
from onebasin.learning.models import built_in
from onebasin.networks.weights import buffers_of
from onebasin.results.exports.rebuilding import masked_layers, rebuild
from onebasin.results.exports.seed_mask import MAGIC, Description, SeedMask
from onebasin.wire.error import WireError

PAGE = (Path(__file__).parents[3] / "docs" / "model-files.md").read_text(encoding="utf-8")
EXAMPLE = SeedMask(
    seed=0x0102,
    description=Description(
        model="mlp",
        options={"hidden": [3]},
        input=(4,),
        classes=2,
        layers={"fc1.weight": (3, 4), "fc2.weight": (2, 3)},
    ),
    masks={
        "fc1.weight": np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]], dtype=np.bool_),
        "fc2.weight": np.ones((2, 3), dtype=np.bool_),
    },
    buffers=Exact(Layout(())).encode({}),
)


def masked(name: str, shape: tuple[int, ...], density: float, **options: object) -> tuple[SeedMask, nn.Module]:
    """Return a file with random masks of a built-in model, and the model."""
    model = built_in(name, shape, 10, options)
    layers = masked_layers(model)
    rng = np.random.default_rng(0)
    masks = {key: rng.random(size) < density for key, size in layers.items()}
    description = Description(model=name, options=options, input=shape, classes=10, layers=layers)
    buffers = buffers_of(model)
    return SeedMask(7, description, masks, Exact(Layout.of(buffers)).encode(buffers)), model


def with_checksum(body: bytes) -> bytes:
    """Return the bytes followed by their checksum."""
    return body + struct.pack("<I", zlib.crc32(body))


def test_bytes_are_as_documented() -> None:
    example = PAGE[PAGE.index("## Worked example") :].split("```")[1]
    rows = [line[:49] for line in example.strip("\n").splitlines()]
    data = EXAMPLE.to_bytes()
    assert bytes.fromhex(" ".join(row.strip() for row in rows)) == data
    read = SeedMask.from_bytes(data)
    assert (read.seed, read.description, read.buffers) == (EXAMPLE.seed, EXAMPLE.description, EXAMPLE.buffers)
    assert all(np.array_equal(read.masks[name], mask) for name, mask in EXAMPLE.masks.items())


def test_weights_can_be_drawn_without_torch_as_documented() -> None:
    twister = np.random.MT19937()
    digest = blake2b(b"(258, 'random weights')", digest_size=8).digest()
    twister._legacy_seeding((int.from_bytes(digest, "little") // 2) % 2**32)
    signs = [np.where(twister.random_raw(size) & 1, 1.0, -1.0) for size in (12, 6)]
    model = rebuild(EXAMPLE)
    first = signs[0].reshape(3, 4) * (2 / 4) ** 0.5 * EXAMPLE.masks["fc1.weight"]
    second = signs[1].reshape(2, 3) * (2 / 3) ** 0.5
    assert np.array_equal(model.fc1.weight.detach().numpy(), first.astype(np.float32))
    assert np.array_equal(model.fc2.weight.detach().numpy(), second.astype(np.float32))
    assert model.fc1.bias.tolist() == [0, 0, 0]
    assert [line.strip() for line in PAGE.splitlines() if "fc1 is" in line] == [
        f"fc1 is {[[round(value, 3) + 0.0 for value in row] for row in model.fc1.weight.tolist()]}"
    ]


@pytest.mark.parametrize(("name", "shape", "most"), [("lenet5", (1, 28, 28), 8_000), ("conv4", (1, 28, 28), 242_000)])
def test_a_model_takes_at_most_a_bit_a_weight_and_its_description(name: str, shape: tuple[int, ...], most: int) -> None:
    file, model = masked(name, shape, 0.5)  # the largest encoded mask
    size = len(file.to_bytes())
    assert file.description.weights / 8 < size < most
    assert sum(p.numel() for p in model.parameters()) == {"lenet5": 61_706, "conv4": 1_933_258}[name]
    sparse, _ = masked(name, shape, 0.11)  # about half a bit per weight
    assert len(sparse.to_bytes()) < 0.51 * size + 300


@given(st.integers(0, 2**63 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.binary(max_size=50))
def test_reading_returns_what_was_written(seed: int, rows: int, columns: int, density: float, rest: bytes) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    description = Description(model="mine:net", input=(columns,), classes=2, layers={"weight": (rows, columns)})
    read = SeedMask.from_bytes(SeedMask(seed, description, {"weight": mask}, rest).to_bytes())
    assert (read.seed, read.description, read.buffers) == (seed, description, rest)
    assert np.array_equal(read.masks["weight"], mask)


def every_damage_is_noticed(data: bytes) -> None:
    """Assert that every truncation and every bit flip of a file is refused."""
    for size in range(len(data)):
        with pytest.raises(WireError):
            SeedMask.from_bytes(data[:size])
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            SeedMask.from_bytes(bytes(altered))


def test_every_truncation_and_every_bit_flip_is_detected() -> None:
    data = EXAMPLE.to_bytes()
    every_damage_is_noticed(data)
    with pytest.raises(WireError, match="checksum"):
        SeedMask.from_bytes(data + b"\0")


def described(text: bytes, mask: bytes = b"") -> bytes:
    """Return a file with this description and this mask."""
    size = bytes([len(text) & 0x7F | 0x80, len(text) >> 7]) if len(text) > 0x7F else bytes([len(text)])
    return with_checksum(MAGIC + b"\x02" + bytes(8) + size + text + bytes([len(mask)]) + mask + b"\0")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a seed"),
        (b"PK\x03\x04" + bytes(40), r"begins with b'PK.x03.x04', not with b'.x89OBM'"),
        (MAGIC + b"\x02", r"has 5 bytes; the shortest file has 20"),
        (MAGIC + b"\x01" + bytes(40), "format version 1; this onebasin reads version 2"),
        (EXAMPLE.to_bytes()[:-1], "checksum does not fit"),
        (
            with_checksum(MAGIC + b"\x02" + bytes(8) + b"\x7f" + bytes(2)),
            "description of 127 bytes goes beyond its end",
        ),
        (with_checksum(MAGIC + b"\x02" + bytes(8) + b"\0\0\0" + b"more"), "4 bytes after its last part"),
        (described(b"[]"), "description is wrong: the whole"),
        (described(b"{"), "description is wrong: the whole: Invalid JSON"),
        (described(b'{"model":"mlp","input":[4],"classes":0,"layers":{"w":[1]}}'), "wrong: classes"),
        (described(b'{"model":"mlp","input":[4],"classes":2,"layers":{"w":[-1]}}'), r"wrong: layers.w.0"),
        (described(b'{"model":"mlp","input":[4],"classes":2,"layers":{}}'), "wrong: layers"),
        (described(b'{"model":"mlp","input":[4],"classes":2,"layers":{"w":[9]},"run":"x"}'), "wrong: run"),
        (described(b"[" * 9000), "description is wrong"),
        (
            described(b'{"model":"mlp","input":[4],"classes":2,"layers":{"w":[100000,100000]}}', b"\x01\x02"),
            "lists 10,000,000,000 weights; a mask of 2 bytes can be of 1,056,768 at most",
        ),
        (
            described(b'{"model":"mlp","input":[4],"classes":2,"layers":{"w":[2,2]}}', b"\xff" * 40),
            "mask is damaged|coded symbols are damaged|a count is",
        ),
    ],
)
def test_errors_name_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        SeedMask.from_bytes(data)


def test_content_that_does_not_fit_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match="the masks are of"):
        SeedMask(0, EXAMPLE.description, {}, b"").to_bytes()
    long = EXAMPLE.description.model_copy(update={"options": {"note": "x" * 70_000}})
    with pytest.raises(ValueError, match="65,536 fit"):
        SeedMask(0, long, EXAMPLE.masks, b"").to_bytes()


def test_the_global_random_state_is_not_changed() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    rebuild(EXAMPLE)
    assert torch.equal(torch.rand(3), expected)
