import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onebasin.codecs.codec import FixedLengthCodec, NotFinite
from onebasin.codecs.dense import Exact, Int8
from onebasin.codecs.named_codecs import CODECS, make_fixed_length_codec
from onebasin.core.layout import Layout, Tensors
from onebasin.wire.error import WireError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
TENSORS = st.lists(
    hnp.arrays("float32", SHAPES, elements=st.floats(-60000, 60000, width=32)), min_size=0, max_size=4
).map(lambda arrays: {f"t{n}": torch.from_numpy(array) for n, array in enumerate(arrays)})


def same(a: Tensors, b: Tensors) -> bool:
    return list(a) == list(b) and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


@given(TENSORS)
def test_fp32_is_exact(tensors: Tensors) -> None:
    codec = make_fixed_length_codec("fp32", Layout.of(tensors))
    assert same(codec.decode(codec.encode(tensors)), tensors)


@given(TENSORS, st.sampled_from(sorted(CODECS)))
def test_byte_counts_are_known_beforehand_and_decoding_is_repeatable(tensors: Tensors, name: str) -> None:
    codec = make_fixed_length_codec(name, Layout.of(tensors))
    body = codec.encode(tensors)
    assert len(body) == 4 + codec.coded_bytes
    received = codec.decode(body)
    assert same(codec.decode(body), received)
    assert all(received[n].shape == tensors[n].shape for n in tensors)


@given(TENSORS)
def test_int8_has_an_error_of_at_most_half_a_step(tensors: Tensors) -> None:
    codec = Int8(Layout.of(tensors))
    received = codec.decode(codec.encode(tensors))
    for name, tensor in tensors.items():
        if tensor.numel():
            step = tensor.abs().max() / 127
            scale_error = 127 * 1e-45  # the smallest scales are themselves rounded
            assert (received[name] - tensor).abs().max() <= 0.501 * step + scale_error


def test_int8_computed_by_hand() -> None:
    tensors = {"a": torch.tensor([127.0, -63.5, 0.4, 0.6]), "zeros": torch.zeros(2)}
    codec = Int8(Layout.of(tensors))
    body = codec.encode(tensors)
    assert body[4:] == struct.pack("<ff6b", 1.0, 1.0, 127, -64, 0, 1, 0, 0)
    assert codec.decode(body)["a"].tolist() == [127.0, -64.0, 0.0, 1.0]


def test_byte_counts_of_lenet5() -> None:
    layout = Layout.of(
        {f"t{n}": torch.zeros(size) for n, size in enumerate((150, 6, 2400, 16, 48000, 120, 10080, 84, 840, 10))}
    )
    assert {name: 4 + make_fixed_length_codec(name, layout).coded_bytes for name in CODECS} == {
        "fp32": 4 + 4 * 61706,
        "fp16": 4 + 2 * 61706,
        "int8": 4 + 61706 + 40,
    }


def test_exact_sends_every_type_unchanged() -> None:
    buffers = {"mean": torch.tensor([0.5, -2.0]), "count": torch.tensor(2**40), "flag": torch.tensor([True, False])}
    codec = Exact(Layout.of(buffers))
    assert codec.coded_bytes == 8 + 8 + 2
    assert same(codec.decode(codec.encode(buffers)), buffers)


@pytest.mark.parametrize("name", sorted(CODECS))
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinite_values_are_not_sent(name: str, bad: float) -> None:
    tensors = {"fine": torch.zeros(2), "broken": torch.tensor([1.0, bad])}
    with pytest.raises(NotFinite, match="broken has 1 values"):
        make_fixed_length_codec(name, Layout.of(tensors)).encode(tensors)


def test_fp16_refuses_values_above_its_range() -> None:
    tensors = {"big": torch.tensor([70000.0])}
    with pytest.raises(NotFinite, match="big"):
        make_fixed_length_codec("fp16", Layout.of(tensors)).encode(tensors)


@pytest.mark.parametrize("name", sorted(CODECS))
def test_damaged_and_foreign_bodies_raise_wire_error(name: str) -> None:
    layout = Layout.of({"a": torch.zeros(3)})
    codec: FixedLengthCodec = make_fixed_length_codec(name, layout)
    body = codec.encode({"a": torch.ones(3)})
    other = next(n for n in CODECS if n != name)
    for wrong in (
        b"",
        body[:3],
        body[:-1],
        body + b"\0",
        make_fixed_length_codec(other, layout).encode({"a": torch.ones(3)}),
    ):
        with pytest.raises(WireError):
            codec.decode(wrong)
    with pytest.raises(WireError):
        make_fixed_length_codec(name, Layout.of({"b": torch.zeros(3)})).decode(body)


def test_bodies_with_nan_or_infinite_values_are_refused() -> None:
    codec = make_fixed_length_codec("fp32", Layout.of({"a": torch.zeros(1)}))
    body = codec.encode({"a": torch.zeros(1)})
    with pytest.raises(WireError, match="NaN or infinite"):
        codec.decode(body[:4] + struct.pack("<f", float("nan")))
    int8 = Int8(Layout.of({"a": torch.zeros(1)}))
    body = int8.encode({"a": torch.zeros(1)})
    for scale in (float("inf"), -1.0):
        with pytest.raises(WireError, match="scale"):
            int8.decode(body[:4] + struct.pack("<fb", scale, 1))


def test_tensors_of_another_layout_are_refused() -> None:
    codec = make_fixed_length_codec("fp32", Layout.of({"a": torch.zeros(2, 3)}))
    with pytest.raises(ValueError, match=r"a: expected \[2, 3\] torch.float32, got \[3, 2\]"):
        codec.encode({"a": torch.zeros(3, 2)})
    with pytest.raises(ValueError, match="expected the tensors"):
        codec.encode({"b": torch.zeros(2, 3)})


def test_the_error_for_an_unknown_codec_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown codec 'fp8'; there are fp32, fp16, int8"):
        make_fixed_length_codec("fp8", Layout(()))
