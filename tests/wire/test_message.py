import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebasin.wire.error import WireError
from onebasin.wire.message import NAMES, SERVER, Kind, Section, bytes_by_kind, decode_message, encode_message
from onebasin.wire.numbers import MAX_NUMBER

sections_strategy = st.lists(
    st.builds(
        Section,
        st.sampled_from(Kind),
        st.sampled_from(NAMES),
        st.binary(max_size=200),
    ),
    max_size=8,
    unique_by=lambda section: section.name,
)
EXAMPLE = encode_message(7, 3, 5, [Section(Kind.UPDATE, "update", b"\x01\x02"), Section(Kind.CONTROL, "do", b"\x03")])


def test_bytes_equal_the_documented_example() -> None:
    body = b"1B\x03" + struct.pack("<I", 0x0102) + bytes([9, 0]) + bytes([3 << 6 | 0, 1, 7])
    expected = body + struct.pack("<I", zlib.crc32(body))
    assert encode_message(0x0102, 9, SERVER, [Section(Kind.CONTROL, "do", b"\x07")]) == expected
    assert len(expected) == 16
    page = (Path(__file__).parents[2] / "docs" / "wire-format.md").read_text(encoding="utf-8")
    example = page[page.index("## Worked example") :].split("```")[1]
    assert bytes.fromhex(" ".join(line[:24].strip() for line in example.strip().splitlines())) == expected


@given(st.integers(0, 2**32 - 1), st.integers(0, MAX_NUMBER), st.integers(0, 2**32 - 1), sections_strategy)
def test_encoded_messages_are_decoded_back(run: int, round: int, sender: int, sections: list[Section]) -> None:
    message = decode_message(encode_message(run, round, sender, sections))
    assert (message.run, message.round, message.sender) == (run, round, sender)
    assert list(message.sections) == sections


@given(sections_strategy)
def test_bytes_by_kind_add_up(sections: list[Section]) -> None:
    data = encode_message(1, 1, 1, sections)
    costs = bytes_by_kind(data)
    assert sum(costs.values()) == len(data)
    assert costs[Kind.UPDATE] == sum(s.size for s in sections if s.kind == Kind.UPDATE)
    assert costs[Kind.CONTROL] == 13 + sum(s.size for s in sections if s.kind == Kind.CONTROL)


def test_every_truncation_and_every_bit_flip_is_refused() -> None:
    for size in range(len(EXAMPLE)):
        with pytest.raises(WireError):
            decode_message(EXAMPLE[:size])
    for bit in range(8 * len(EXAMPLE)):
        altered = bytearray(EXAMPLE)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            decode_message(bytes(altered))
    with pytest.raises(WireError):
        decode_message(EXAMPLE + b"\x00")


@given(st.binary(max_size=300))
def test_any_bytes_with_a_valid_checksum_decode_or_raise_wire_error(noise: bytes) -> None:
    for start in (b"", b"\x01", b"\x01\x01", b"\x01\x01\xc0"):
        body = b"1B\x03" + struct.pack("<I", 1) + start + noise
        data = body + struct.pack("<I", zlib.crc32(body))
        try:
            message = decode_message(data)
        except WireError:
            continue
        assert encode_message(1, message.round, message.sender, message.sections) == data


def test_a_message_above_the_length_limit_is_refused() -> None:
    with pytest.raises(WireError, match=r"at most 10 are allowed"):
        decode_message(EXAMPLE, limit=10)


def test_unknown_and_repeated_section_names_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="different names"):
        encode_message(1, 1, 1, [Section(Kind.INIT, "do", b""), Section(Kind.INIT, "do", b"")])
    with pytest.raises(ValueError, match="no section can be named 'gossip'; there are do, seed"):
        encode_message(1, 1, 1, [Section(Kind.INIT, "gossip", b"")])
