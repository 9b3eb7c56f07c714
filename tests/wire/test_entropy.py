import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.error import WireError


def test_numbers_of_every_type_are_read_back_in_order() -> None:
    writer = SymbolWriter()
    writer.integer(5, 6)
    writer.integer(70_000, 100_000)
    writer.integer(0, 1)
    writer.count(0, 10)
    writer.count(1000, 1000)
    writer.floats(np.array([1.5, -math.pi], dtype=np.float32))
    writer.floats(np.array([0.25]), "<f2")
    reader = SymbolReader(writer.finish())
    assert [reader.integer(6), reader.integer(100_000), reader.integer(1), reader.count(10), reader.count(1000)] == [
        5,
        70_000,
        0,
        0,
        1000,
    ]
    assert reader.floats(2).tolist() == [1.5, np.float32(-math.pi)]
    assert reader.floats(1, "<f2").tolist() == [0.25]


def test_an_empty_stream_takes_no_bytes() -> None:
    assert SymbolWriter().finish() == b""
    writer = SymbolWriter()
    writer.flags(np.zeros(0, dtype=bool))
    writer.integers(np.zeros(0, dtype=np.int32), 3)
    assert writer.finish() == b""
    assert SymbolReader(b"").flags(0).tolist() == []


@pytest.mark.parametrize("flags", [[True], [True, True], [True, False], [True, True, False]])
def test_few_flags_are_read_back(flags: list[bool]) -> None:
    writer = SymbolWriter()
    writer.flags(np.array(flags))
    writer.integer(3, 7)
    reader = SymbolReader(writer.finish())
    assert reader.flags(len(flags)).tolist() == flags
    assert reader.integer(7) == 3


@given(hnp.arrays(bool, st.integers(0, 300)))
def test_flags_are_read_back(flags: Any) -> None:
    writer = SymbolWriter()
    writer.flags(flags)
    writer.integer(3, 7)
    reader = SymbolReader(writer.finish())
    assert (reader.flags(len(flags)) == flags).all()
    assert reader.integer(7) == 3


@given(hnp.arrays(np.int32, st.integers(0, 200), elements=st.integers(0, 8)))
def test_symbols_are_read_back(symbols: Any) -> None:
    writer = SymbolWriter()
    writer.symbols(symbols, 9)
    writer.integer(3, 7)
    reader = SymbolReader(writer.finish())
    assert (reader.symbols(len(symbols), 9) == symbols).all()
    assert reader.integer(7) == 3


@pytest.mark.parametrize("p", [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("count", [10**5, 10**6])
def test_a_bernoulli_source_takes_its_entropy(p: float, count: int) -> None:
    flags = np.random.default_rng(0).random(count) < p
    writer = SymbolWriter()
    writer.flags(flags)
    assert len(writer.finish()) <= 1.015 * _entropy_bytes(flags.astype(np.int64)) + 32


@pytest.mark.parametrize("p", [0.001, 0.01, 0.1, 0.5])
def test_a_ternary_source_takes_its_entropy(p: float) -> None:
    symbols = np.random.default_rng(0).choice(3, 10**5, p=[p / 2, 1 - p, p / 2]).astype(np.int32)
    writer = SymbolWriter()
    writer.symbols(symbols, 3)
    assert len(writer.finish()) <= 1.015 * _entropy_bytes(symbols) + 32


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_decode_to_symbols_in_range_or_raise_wire_error(data: bytes) -> None:
    reader = SymbolReader(data)
    try:
        assert reader.flags(50).shape == (50,)
        assert set(reader.symbols(40, 5).tolist()) <= set(range(5))
        assert 0 <= reader.integer(100_000) < 100_000
        assert 0 <= reader.count(77) <= 77
    except WireError:
        pass


def _entropy_bytes(symbols: Any) -> float:
    shares = np.bincount(symbols) / len(symbols)
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum() * len(symbols) / 8)
