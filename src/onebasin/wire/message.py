"""The message format: an envelope around named sections, whose checksum is verified before any section is used.

docs/wire-format.md describes the format byte by byte. Integers of variable length are LEB128 (`numbers.py`).
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from onebasin.wire.error import WireError
from onebasin.wire.numbers import number_bytes, read_number, write_number

MAGIC = b"1B"
VERSION = 3
SERVER = 0xFFFFFFFF
"""The sender of the server's messages; clients are numbered from 0."""
DEFAULT_LIMIT = 1 << 31
NAMES = (
    "do",
    "seed",
    "weights",
    "buffers",
    "changes",
    "version",
    "permutation",
    "control",
    "report",
    "update",
    "signatures",
    "sketch",
    "statistics",
    "extra",
)
"""The names that a section can have; a message contains a name as its index here. `extra`: code from outside."""

_HEADER = struct.Struct("<2sBI")
_CHECKSUM = struct.Struct("<I")
_MIN_BYTES = _HEADER.size + 2 + _CHECKSUM.size
_NAME_BITS = 6


class Kind(IntEnum):
    """The kinds of bytes that the ledger counts separately."""

    INIT = 0
    ALIGN = 1
    UPDATE = 2
    CONTROL = 3


@dataclass(frozen=True)
class Section:
    """A named part of a message. kind: how its bytes are charged. body: encoded content, which is not decoded here."""

    kind: Kind
    name: str
    body: bytes

    @property
    def size(self) -> int:
        """Return the bytes that the section takes in a message: its head, its length field and its body."""
        return 1 + number_bytes(len(self.body)) + len(self.body)


@dataclass(frozen=True)
class Message:
    """A request or a reply.

    run: the run's number (32 bits). round: counts from 1. sender: a client's number, or `SERVER`.
    """

    run: int
    round: int
    sender: int
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section | None:
        """Return the section of that name, or None if there is none."""
        return next((section for section in self.sections if section.name == name), None)

    def require(self, name: str) -> bytes:
        """Return the body of the section of that name. Errors: `WireError` if there is none."""
        section = self.section(name)
        if section is None:
            raise WireError(f"the message has no section {name!r}; it has {[s.name for s in self.sections]}")
        return section.body


def encode_message(run: int, round: int, sender: int, sections: Iterable[Section]) -> bytes:
    """Return a message as bytes. Arguments: as in `Message`.

    Errors: `ValueError` if a section's name is not in `NAMES`, or if two sections have one name.
    """
    sections = tuple(sections)
    names = [section.name for section in sections]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"no section can be named {unknown[0]!r}; there are {', '.join(NAMES)}")
    if len(set(names)) != len(names):
        raise ValueError(f"the sections of a message have different names, not {names}")
    parts = [_HEADER.pack(MAGIC, VERSION, run), write_number(round), write_number(_sender_field(sender))]
    for section in sections:
        head = section.kind << _NAME_BITS | NAMES.index(section.name)
        parts += (bytes([head]), write_number(len(section.body)), section.body)
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join((*parts, _CHECKSUM.pack(checksum)))


def decode_message(data: bytes, limit: int = DEFAULT_LIMIT) -> Message:
    """Return the message that `encode_message` wrote; it allocates no more memory than `data` takes.

    Errors: `WireError` if a byte is missing, altered or added, or if `data` is longer than `limit` bytes.
    """
    message = _parse(data, limit)
    checksum_offset = len(data) - _CHECKSUM.size
    if zlib.crc32(memoryview(data)[:checksum_offset]) != _CHECKSUM.unpack_from(data, checksum_offset)[0]:
        raise WireError("the message's checksum does not fit its bytes")
    return message


def sections_of(data: bytes) -> tuple[Section, ...]:
    """Return a message's sections without verifying its checksum, to count bytes.

    Errors: `WireError` if the envelope or the sections have another format.
    """
    return _parse(data, len(data)).sections


def _parse(data: bytes, limit: int) -> Message:
    if len(data) > limit:
        raise WireError(f"the message has {len(data):,} bytes; at most {limit:,} are allowed here")
    if len(data) < _MIN_BYTES:
        raise WireError(f"the message has {len(data)} bytes; the envelope alone has {_MIN_BYTES} or more")
    magic, version, run = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"the message begins with {bytes(magic)!r}, not with {MAGIC!r}")
    if version != VERSION:
        raise WireError(f"the message has format version {version}; this side reads version {VERSION}")
    view = memoryview(data)[: len(data) - _CHECKSUM.size]
    round, offset = read_number(view, _HEADER.size)
    sender_field, offset = read_number(view, offset)
    sections: dict[str, Section] = {}
    while offset < len(view):
        kind, name = view[offset] >> _NAME_BITS, view[offset] & (1 << _NAME_BITS) - 1
        size, offset = read_number(view, offset + 1)
        if name >= len(NAMES) or offset + size > len(view):
            raise WireError(f"section {len(sections) + 1} is not known or does not fit into the message")
        if NAMES[name] in sections:
            raise WireError(f"the message has two sections {NAMES[name]!r}")
        sections[NAMES[name]] = Section(Kind(kind), NAMES[name], bytes(view[offset : offset + size]))
        offset += size
    return Message(run, round, SERVER if not sender_field else sender_field - 1, tuple(sections.values()))


def _sender_field(sender: int) -> int:
    """Return the number that encodes a sender: 0 for the server, a client's number + 1."""
    return 0 if sender == SERVER else sender + 1


def bytes_by_kind(data: bytes) -> Mapping[Kind, int]:
    """Return the bytes of a message by kind; they add up to ``len(data)``.

    The envelope counts as `Kind.CONTROL`, and so does a whole message that cannot be parsed.
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
