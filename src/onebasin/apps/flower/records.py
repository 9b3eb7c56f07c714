"""Our bytes in Flower's records, both ways, and what else must be said beside them."""

import re

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from onebasin.core.clients import ClientId, Failure

IN_ONE_PIECE = 1 << 20
"""Payloads of fewer bytes are a value of the record, which saves two requests; larger ones travel in chunks."""

LONGEST_REASON = 500

_ABOUT, _PAYLOAD = "onebasin", "payload"
_MARK = re.compile(r"(?:[0-9a-f]{32})?")


class RecordError(ValueError):
    """A record that is not one of ours; the message says what is wrong."""


def write_record(client: ClientId, state: str, content: bytes | Failure) -> RecordDict:
    """Return an order or a reply. client: whose; state: the mark of what the client begins from, or then remembers."""
    about = ConfigRecord({"client": client, "state": state})
    record = RecordDict({_ABOUT: about})
    if isinstance(content, Failure):
        about["failure"] = content.reason[:LONGEST_REASON]
    elif len(content) < IN_ONE_PIECE:
        about[_PAYLOAD] = content
    else:
        whole = Array(dtype="uint8", shape=(len(content),), stype="onebasin", data=content)
        record[_PAYLOAD] = ArrayRecord({_PAYLOAD: whole})
    return record


def read_record(record: RecordDict) -> tuple[ClientId, str, bytes | Failure]:
    """Return client, mark and content; `RecordError` when the record is not one of ours."""
    about = record.config_records.get(_ABOUT)
    if about is None:
        raise RecordError(f"the record has {sorted(record)}; expected {_ABOUT!r}")
    client, state, failure = about.get("client"), about.get("state"), about.get("failure")
    if isinstance(client, bool) or not isinstance(client, int) or client < 0:
        raise RecordError(f"client is {_short(client)}; expected a number, 0 or more")
    if not isinstance(state, str) or not _MARK.fullmatch(state):
        raise RecordError(f"state is {_short(state)}; expected a mark of 32 hexadecimal digits, or nothing")
    if isinstance(failure, str):
        return client, state, Failure(failure[:LONGEST_REASON])
    arrays = record.array_records.get(_PAYLOAD)
    content = about.get(_PAYLOAD) if arrays is None else getattr(arrays.get(_PAYLOAD), "data", None)
    if not isinstance(content, bytes):
        raise RecordError(f"payload is {_short(content)}; expected bytes")
    return client, state, content


def _short(value: object) -> str:
    return repr(value)[:80]
