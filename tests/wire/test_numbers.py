import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.wire.error import WireError
from onebasin.wire.numbers import MOST, number_bytes, read_number, write_number


@pytest.mark.parametrize(
    ("value", "data"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (16384, b"\x80\x80\x01")]
)
def test_bytes_are_those_of_leb128(value: int, data: bytes) -> None:
    assert write_number(value) == data


@given(st.integers(0, MOST), st.binary(max_size=3), st.binary(max_size=3))
def test_reading_gives_back_what_was_written(value: int, before: bytes, after: bytes) -> None:
    said = write_number(value)
    assert len(said) == number_bytes(value)
    assert read_number(before + said + after, len(before)) == (value, len(before) + len(said))


@given(st.binary(max_size=8))
def test_what_can_be_read_is_as_it_would_be_written(data: bytes) -> None:
    try:
        value, end = read_number(data, 0)
    except WireError:
        return
    assert write_number(value) == data[:end]


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"", "end inside"), (b"\x80", "end inside"), (b"\x80\x00", "longer than"), (b"\xff" * 6, "above")],
)
def test_what_is_no_number_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        read_number(data, 0)


@pytest.mark.parametrize("value", [-1, MOST + 1])
def test_what_is_out_of_bounds_is_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="expected a number from 0"):
        write_number(value)
