"""The message format: an envelope around named sections, checked before anything in it is used.

The layout, byte by byte, is in docs/wire-format.md. All integers are little-endian.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"1BSN"
VERSION = 1
SERVER = 0xFFFFFFFF
MAX_SECTIONS = 64
MAX_NAME = 32
DEFAULT_LIMIT = 1 << 31

_HEADER = struct.Struct("<4sBBQIII")
_SECTION = struct.Struct("<BBI")
_CHECKSUM = struct.Struct("<I")
ENVELOPE_BYTES = _HEADER.size + _CHECKSUM.size


class WireError(ValueError):
    """A message that is not what it must be: truncated, altered, foreign, or out of bounds."""


class Kind(IntEnum):
    """What a section's bytes are charged as."""

    INIT = 1
    ALIGN = 2
    UPDATE = 3
    CONTROL = 4


@dataclass(frozen=True)
class Section:
    """A named part of a message; `body` is opaque here."""

    kind: Kind
    name: str
    body: bytes

    @property
    def size(self) -> int:
        """Bytes on the wire, framing included."""
        return _SECTION.size + len(self.name) + len(self.body)


@dataclass(frozen=True)
class Message:
    """One order or reply.

    `run` names the run (64 bits), `round` counts from 1, `sender` is a client's number or `SERVER`.
    """

    run: int
    round: int
    sender: int
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section | None:
        """Return the section of that name, or None."""
        return next((section for section in self.sections if section.name == name), None)

    def require(self, name: str) -> bytes:
        """Return the body of the section of that name; `WireError` if the message has none."""
        section = self.section(name)
        if section is None:
            raise WireError(f"the message has no section {name!r}; it has {[s.name for s in self.sections]}")
        return section.body


def encode_message(run: int, round: int, sender: int, sections: Iterable[Section]) -> bytes:
    """Return the message's bytes. `ValueError` for more sections, longer names or bodies than the format holds."""
    sections = tuple(sections)
    names = [section.name for section in sections]
    if len(sections) > MAX_SECTIONS or len(set(names)) != len(names):
        raise ValueError(f"a message holds at most {MAX_SECTIONS} sections of different names, not {names}")
    parts = [b""]
    for section in sections:
        name = section.name.encode("ascii")
        if not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"section name {section.name!r} must have 1 to {MAX_NAME} ASCII characters")
        if len(section.body) >= 1 << 32:
            raise ValueError(f"section {section.name!r} has {len(section.body):,} bytes; the format holds 4 GiB")
        parts += (_SECTION.pack(section.kind, len(name), len(section.body)), name, section.body)
    total = ENVELOPE_BYTES + sum(map(len, parts))
    if total >= 1 << 32:
        raise ValueError(f"the message has {total:,} bytes; the format holds 4 GiB")
    parts[0] = _HEADER.pack(MAGIC, VERSION, len(sections), run, round, sender, total)
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join((*parts, _CHECKSUM.pack(checksum)))


def decode_message(data: bytes, limit: int = DEFAULT_LIMIT) -> Message:
    """Return the message in `data`, at most `limit` bytes.

    `WireError` when a byte is missing, altered or too many. Nothing is allocated beyond the bytes given.
    """
    message = _parse(data, limit)
    body_end = len(data) - _CHECKSUM.size
    if zlib.crc32(memoryview(data)[:body_end]) != _CHECKSUM.unpack_from(data, body_end)[0]:
        raise WireError("the message's checksum does not fit its bytes")
    return message


def sections_of(data: bytes) -> tuple[Section, ...]:
    """Return the sections as they lie in `data`, unverified, for counting; `WireError` when they do not fit."""
    return _parse(data, len(data)).sections


def _parse(data: bytes, limit: int) -> Message:
    if len(data) > limit:
        raise WireError(f"the message has {len(data):,} bytes; at most {limit:,} are allowed here")
    if len(data) < ENVELOPE_BYTES:
        raise WireError(f"the message has {len(data)} bytes; the envelope alone has {ENVELOPE_BYTES}")
    magic, version, count, run, round, sender, total = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"the message begins with {bytes(magic)!r}, not with {MAGIC!r}")
    if version != VERSION:
        raise WireError(f"the message has format version {version}; this side reads version {VERSION}")
    if total != len(data):
        raise WireError(f"the message says it has {total:,} bytes, but {len(data):,} arrived")
    view = memoryview(data)
    body_end = len(data) - _CHECKSUM.size
    if count > MAX_SECTIONS:
        raise WireError(f"the message says it has {count} sections; at most {MAX_SECTIONS} are allowed")

    sections: dict[str, Section] = {}
    at = _HEADER.size
    for _ in range(count):
        if at + _SECTION.size > body_end:
            raise WireError(f"the message ends inside the head of section {len(sections) + 1} of {count}")
        kind, name_size, size = _SECTION.unpack_from(data, at)
        at += _SECTION.size
        if not 0 < name_size <= MAX_NAME or at + name_size + size > body_end:
            raise WireError(f"section {len(sections) + 1} of {count} does not fit into the message")
        try:
            name = str(view[at : at + name_size], "ascii")
            section = Section(Kind(kind), name, bytes(view[at + name_size : at + name_size + size]))
        except ValueError as error:
            raise WireError(f"section {len(sections) + 1} of {count}: {error}") from None
        if name in sections:
            raise WireError(f"the message has two sections {name!r}")
        sections[name] = section
        at += name_size + size
    if at != body_end:
        raise WireError(f"{body_end - at} bytes follow the last section")
    return Message(run, round, sender, tuple(sections.values()))


def bytes_by_kind(data: bytes) -> Mapping[Kind, int]:
    """Return what each kind of section costs in `data`; the envelope, and a message that cannot be read, is CONTROL.

    The values add up to ``len(data)``.
    """
    costs = dict.fromkeys(Kind, 0)
    try:
        sections = sections_of(data)
    except WireError:
        sections = ()
    for section in sections:
        costs[section.kind] += section.size
    costs[Kind.CONTROL] += len(data) - sum(costs.values())
    return costs
