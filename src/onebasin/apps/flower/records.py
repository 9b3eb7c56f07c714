"""Requests and replies in Flower's records, with the client's number and the digest of its state."""

import re

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from onebasin.core.clients import ClientId, Failure

MAX_INLINE_BYTES = 1 << 20
"""Shorter payloads are a value of the record, which saves two HTTP requests; longer ones are sent in chunks."""

MAX_REASON_LENGTH = 500

_HEADER, _PAYLOAD = "onebasin", "payload"
_DIGEST = re.compile(r"(?:[0-9a-f]{32})?")


class RecordError(ValueError):
    """The record was not written by `write_record`. The message says what is wrong."""


def write_record(client: ClientId, digest: str, content: bytes | Failure) -> RecordDict:
    """Return the record of a request or a reply.

    client: that gets the request, or replies.
    digest: of the client's state, before a request or after a reply.
    content: the encoded message, or a failure.
    """
    header = ConfigRecord({"client": client, "state": digest})
    record = RecordDict({_HEADER: header})
    if isinstance(content, Failure):
        header["failure"] = content.reason[:MAX_REASON_LENGTH]
    elif len(content) < MAX_INLINE_BYTES:
        header[_PAYLOAD] = content
    else:
        whole = Array(dtype="uint8", shape=(len(content),), stype="onebasin", data=content)
        record[_PAYLOAD] = ArrayRecord({_PAYLOAD: whole})
    return record


def read_record(record: RecordDict) -> tuple[ClientId, str, bytes | Failure]:
    """Return client, digest and content of a record. Raises RecordError if `write_record` did not write it."""
    header = record.config_records.get(_HEADER)
    if header is None:
        raise RecordError(f"the record has {sorted(record)}; expected {_HEADER!r}")
    client, digest, failure = header.get("client"), header.get("state"), header.get("failure")
    if isinstance(client, bool) or not isinstance(client, int) or client < 0:
        raise RecordError(f"client is {_short(client)}; expected a number, 0 or more")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise RecordError(f"state is {_short(digest)}; expected a mark of 32 hexadecimal digits, or nothing")
    if isinstance(failure, str):
        return client, digest, Failure(failure[:MAX_REASON_LENGTH])
    arrays = record.array_records.get(_PAYLOAD)
    content = header.get(_PAYLOAD) if arrays is None else getattr(arrays.get(_PAYLOAD), "data", None)
    if not isinstance(content, bytes):
        raise RecordError(f"payload is {_short(content)}; expected bytes")
    return client, digest, content


def _short(value: object) -> str:
    return repr(value)[:80]
