import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.wire.error import WireError
from onebasin.wire.numbers import MAX_NUMBER, number_bytes, read_number, write_number


@pytest.mark.parametrize(
    ("value", "data"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (16384, b"\x80\x80\x01")]
)
def test_bytes_are_those_of_leb128(value: int, data: bytes) -> None:
    assert write_number(value) == data


@given(st.integers(0, MAX_NUMBER), st.binary(max_size=3), st.binary(max_size=3))
def test_a_written_number_is_read_back(value: int, before: bytes, after: bytes) -> None:
    encoded = write_number(value)
    assert len(encoded) == number_bytes(value)
    assert read_number(before + encoded + after, len(before)) == (value, len(before) + len(encoded))


@given(st.binary(max_size=8))
def test_every_readable_number_has_the_bytes_that_are_written_for_it(data: bytes) -> None:
    try:
        value, end = read_number(data, 0)
    except WireError:
        return
    assert write_number(value) == data[:end]


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"", "end inside"), (b"\x80", "end inside"), (b"\x80\x00", "longer than"), (b"\xff" * 6, "above")],
)
def test_bytes_that_encode_no_number_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        read_number(data, 0)


@pytest.mark.parametrize("value", [-1, MAX_NUMBER + 1])
def test_numbers_out_of_bounds_are_not_written(value: int) -> None:
    with pytest.raises(ValueError, match="expected a number from 0"):
        write_number(value)
