"""Whole numbers of any size in as few bytes as they need: seven bits a byte, the lowest first (LEB128)."""

from onebasin.wire.error import WireError

MOST = (1 << 35) - 1
"""The largest number that is read or written: five bytes."""


def write_number(value: int) -> bytes:
    """Return the bytes of a number from 0 to `MOST`; `ValueError` for another."""
    if not 0 <= value <= MOST:
        raise ValueError(f"expected a number from 0 to {MOST:,}, got {value:,}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_bytes(value: int) -> int:
    """Return how many bytes a number takes."""
    return max(1, -(-value.bit_length() // 7))


def read_number(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it.

    `WireError` when the bytes end too early, the number is above `MOST`, or it is not as short as it could be.
    """
    value = 0
    for place in range(number_bytes(MOST)):
        if at + place >= len(data):
            raise WireError(f"the bytes end inside a number, after {len(data)}")
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte <= 0x7F:
            if place and not byte:
                raise WireError("a number is longer than it need be")
            return value, at + place + 1
    raise WireError(f"a number is above {MOST:,}")
