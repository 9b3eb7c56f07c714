"""The message format: an envelope around named sections, checked before anything in it is used.

The layout, byte by byte, is in docs/wire-format.md. Whole numbers are as short as they can be (`numbers.py`).
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
"""What a section can be: the wire has a name's place in this list. `extra` is for code from outside the package."""

_HEADER = struct.Struct("<2sBI")
_CHECKSUM = struct.Struct("<I")
_LEAST_BYTES = _HEADER.size + 2 + _CHECKSUM.size
_NAME_BITS = 6


class Kind(IntEnum):
    """What a section's bytes are charged as."""

    INIT = 0
    ALIGN = 1
    UPDATE = 2
    CONTROL = 3


@dataclass(frozen=True)
class Section:
    """A named part of a message; `body` is opaque here."""

    kind: Kind
    name: str
    body: bytes

    @property
    def size(self) -> int:
        """Bytes on the wire, framing included."""
        return 1 + number_bytes(len(self.body)) + len(self.body)


@dataclass(frozen=True)
class Message:
    """One order or reply.

    `run` names the run (32 bits), `round` counts from 1, `sender` is a client's number or `SERVER`.
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
    """Return the message's bytes. `ValueError` for a name that the format has not, or that is there twice."""
    sections = tuple(sections)
    names = [section.name for section in sections]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"no section can be named {unknown[0]!r}; there are {', '.join(NAMES)}")
    if len(set(names)) != len(names):
        raise ValueError(f"the sections of a message have different names, not {names}")
    parts = [_HEADER.pack(MAGIC, VERSION, run), write_number(round), write_number(_place_of(sender))]
    for section in sections:
        head = section.kind << _NAME_BITS | NAMES.index(section.name)
        parts += (bytes([head]), write_number(len(section.body)), section.body)
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
    if len(data) < _LEAST_BYTES:
        raise WireError(f"the message has {len(data)} bytes; the envelope alone has {_LEAST_BYTES} or more")
    magic, version, run = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"the message begins with {bytes(magic)!r}, not with {MAGIC!r}")
    if version != VERSION:
        raise WireError(f"the message has format version {version}; this side reads version {VERSION}")
    view = memoryview(data)[: len(data) - _CHECKSUM.size]
    round, at = read_number(view, _HEADER.size)
    place, at = read_number(view, at)
    sections: dict[str, Section] = {}
    while at < len(view):
        kind, name = view[at] >> _NAME_BITS, view[at] & (1 << _NAME_BITS) - 1
        size, at = read_number(view, at + 1)
        if name >= len(NAMES) or at + size > len(view):
            raise WireError(f"section {len(sections) + 1} is not known or does not fit into the message")
        if NAMES[name] in sections:
            raise WireError(f"the message has two sections {NAMES[name]!r}")
        sections[NAMES[name]] = Section(Kind(kind), NAMES[name], bytes(view[at : at + size]))
        at += size
    return Message(run, round, SERVER if not place else place - 1, tuple(sections.values()))


def _place_of(sender: int) -> int:
    """The server is 0, and each client its number and one."""
    return 0 if sender == SERVER else sender + 1


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
