"""Changing messages: bits, bytes, stretches, sections, numbers; most with a checksum that fits what came of it."""

import struct
import zlib
from collections.abc import Sequence
from random import Random

from onebasin.wire.message import NAMES, Message, decode_message
from onebasin.wire.numbers import write_number

_CHECKSUM = 4
_NUMBERS = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 3.4e38, -3.4e38, 1e-45)
_WHOLE = (0, 1, 127, 128, 2**16, 2**32 - 1, 2**35 - 1)


def mutate(message: bytes, others: Sequence[bytes], draw: Random) -> tuple[str, bytes]:
    """Return what was done, and a message that is not the one given."""
    while True:
        name, way = draw.choice(WAYS)
        try:
            changed = way(message, others, draw)
        except (IndexError, ValueError):  # nothing there to be changed in this way, or a number too large to be written
            continue
        if changed != message:
            return name, changed


def _bits(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    data = bytearray(message)
    for _ in range(draw.choice((1, 1, 2, 8))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return _summed(bytes(data), draw)


def _stretch(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    """Cut out, double, overwrite or fill in a stretch."""
    begin, size = draw.randrange(len(message)), draw.choice((1, 2, 4, 16, 64))
    piece = message[begin : begin + size]
    way = draw.randrange(4)
    if way == 0:
        data = message[:begin] + message[begin + size :]
    elif way == 1:
        data = message[:begin] + piece + message[begin:]
    elif way == 2:
        data = message[:begin] + bytes([draw.choice((0, 255))]) * len(piece) + message[begin + size :]
    else:
        data = message[:begin] + draw.randbytes(size) + message[begin:]
    return _summed(data, draw)


def _cut(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    return _summed(message[: draw.randrange(len(message))], draw)


def _spliced(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    """The beginning of one and the end of another."""
    other = draw.choice(others)
    return _summed(message[: draw.randrange(len(message))] + other[draw.randrange(len(other)) :], draw)


def _foreign(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    """Another message as it was: of another round, client, method, direction."""
    return draw.choice(others)


def _enveloped(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    """The same sections of another run, round or sender."""
    read = decode_message(message)
    run, round, place = read.run, read.round, (read.sender + 1) & 0xFFFFFFFF
    field = draw.randrange(3)
    run = draw.getrandbits(32) if field == 0 else run
    round = draw.choice((round - 1, round + 1, *_WHOLE)) if field == 1 else round
    place = draw.choice((0, place + 1, *_WHOLE)) if field == 2 else place
    return _assembled(run, max(round, 0), place, _raw_sections(read))


def _sectioned(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    """Sections dropped, doubled, turned round, renamed, charged otherwise, or taken from another message."""
    read = decode_message(message)
    sections = _raw_sections(read)
    place, way = draw.randrange(len(sections)), draw.randrange(6)
    head, body = sections[place]
    if way == 0:
        del sections[place]
    elif way == 1:
        sections.insert(draw.randrange(len(sections)), (head, body))
    elif way == 2:
        draw.shuffle(sections)
    elif way == 3:
        sections[place] = (head & 0xC0 | draw.randrange(len(NAMES) + 2), body)
    elif way == 4:
        sections[place] = (head & 0x3F | draw.randrange(4) << 6, body)
    else:
        sections.append(draw.choice(_raw_sections(decode_message(draw.choice(others)))))
    return _assembled(read.run, read.round, (read.sender + 1) & 0xFFFFFFFF, sections)


def _bodied(message: bytes, others: Sequence[bytes], draw: Random) -> bytes:
    """One section with another body: the mark at its beginning mostly stays, so that what follows is read."""
    read = decode_message(message)
    sections = _raw_sections(read)
    place, way = draw.randrange(len(sections)), draw.randrange(9)
    head, body = sections[place]
    kept = body[:4] if draw.random() < 0.9 else b""
    rest = bytearray(body[len(kept) :])
    if way == 0:
        rest[draw.randrange(len(rest))] ^= 1 << draw.randrange(8)
    elif way == 1:
        rest = bytearray(draw.randbytes(len(rest)))
    elif way == 2:
        rest = bytearray(draw.randbytes(draw.choice((0, 1, 3, 4, 5, 40))))
    elif way == 3:
        rest = bytearray([draw.choice((0, 255))]) * len(rest)
    elif way == 4:
        del rest[draw.randrange(len(rest)) :]
    elif way == 5:
        at = draw.randrange(len(rest)) // 4 * 4
        rest[at : at + 4] = struct.pack("<f", draw.choice(_NUMBERS))
    elif way == 6:
        at = draw.randrange(len(rest))
        rest[at : at + 1] = write_number(draw.choice(_WHOLE))
    elif way == 7:
        rest += draw.randbytes(draw.choice((1, 4, 100)))
    else:  # a bomb, or what one would have to look like
        rest += bytes(draw.choice((1000, 30_000))) if draw.random() < 0.5 else bytes(rest) * draw.choice((2, 50))
    sections[place] = (head, kept + bytes(rest))
    return _assembled(read.run, read.round, (read.sender + 1) & 0xFFFFFFFF, sections)


WAYS = (
    ("bits", _bits),
    ("a stretch", _stretch),
    ("cut short", _cut),
    ("spliced", _spliced),
    ("replayed or foreign", _foreign),
    ("envelope", _enveloped),
    ("sections", _sectioned),
    ("a body", _bodied),
    ("a body", _bodied),
    ("a body", _bodied),
)


def _raw_sections(message: Message) -> list[tuple[int, bytes]]:
    return [(section.kind << 6 | NAMES.index(section.name), section.body) for section in message.sections]


def _assembled(run: int, round: int, place: int, sections: Sequence[tuple[int, bytes]]) -> bytes:
    parts = [b"1B\x02" + struct.pack("<I", run), write_number(round), write_number(place)]
    for head, body in sections:
        parts += (bytes([head]), write_number(len(body)), body)
    data = b"".join(parts)
    return data + struct.pack("<I", zlib.crc32(data))


def _summed(data: bytes, draw: Random) -> bytes:
    """With the checksum that it should have, mostly."""
    if draw.random() < 0.2 or len(data) < _CHECKSUM:
        return data
    body = data[:-_CHECKSUM]
    return body + struct.pack("<I", zlib.crc32(body))
