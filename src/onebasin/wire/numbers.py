"""Unsigned integers in as few bytes as they need: LEB128, seven bits per byte, the lowest bits first."""

from onebasin.wire.error import WireError

MAX_NUMBER = (1 << 35) - 1
"""The largest number that is written or read; it takes five bytes."""


def write_number(value: int) -> bytes:
    """Return the encoded number, 1 to 5 bytes. Errors: `ValueError` if it is negative or above `MAX_NUMBER`."""
    if not 0 <= value <= MAX_NUMBER:
        raise ValueError(f"expected a number from 0 to {MAX_NUMBER:,}, got {value:,}")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number_bytes(value: int) -> int:
    """Return the length of the encoded number in bytes."""
    return max(1, -(-value.bit_length() // 7))


def read_number(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    """Return the number that begins at a byte offset, and the offset after it.

    Errors: `WireError` if the bytes end too early, or the number is above `MAX_NUMBER` or longer than it needs to be.
    """
    value = 0
    for index in range(number_bytes(MAX_NUMBER)):
        if offset + index >= len(data):
            raise WireError(f"the bytes end inside a number, after {len(data)}")
        byte = data[offset + index]
        value |= (byte & 0x7F) << 7 * index
        if byte <= 0x7F:
            if index and not byte:
                raise WireError("a number is longer than it need be")
            return value, offset + index + 1
    raise WireError(f"a number is above {MAX_NUMBER:,}")
