"""The engine's `Link` to a SuperLink, by means of a Flower `Grid`."""

from collections.abc import Iterable

from flwr.app import Error, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from onebasin.apps.flower.records import MAX_REASON_LENGTH, RecordError, read_record, write_record
from onebasin.core.clients import Failure
from onebasin.federation.engines.flower import MessageId, NodeId, NodeReply, NodeRequest

FLOWER_ERRORS = {
    1: "the node cannot load the app; is onebasin installed there?",
    2: "the node's app raised an error",
    3: "the order is no longer at the SuperLink",
    4: "the reply is no longer at the SuperLink",
    5: "the node went away",
    7: "the node does not accept the app",
    8: "the node's app was killed",
}


class GridLink:
    """The connection of one run to its SuperLink."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def nodes(self) -> Iterable[NodeId]:
        return list(self._grid.get_node_ids())

    def push(self, requests: Iterable[NodeRequest], seconds: float) -> list[MessageId | None]:
        messages = [_message(request, seconds) for request in requests]
        ids = list(self._grid.push_messages(messages))
        return [each or None for each in ids] if ids else [None] * len(messages)

    def pull(self, messages: Iterable[MessageId]) -> Iterable[NodeReply]:
        return [_node_reply(message) for message in self._grid.pull_messages(list(messages))]


def _message(request: NodeRequest, seconds: float) -> Message:
    """Return Flower's message for a request; Flower drops it after so many seconds."""
    ttl = max(seconds, 1.0)
    if request.client is None:
        return Message(RecordDict(), request.node, MessageType.QUERY, ttl=ttl)
    record = write_record(request.client, request.digest, request.payload)
    return Message(record, request.node, MessageType.TRAIN, ttl=ttl)


def _node_reply(message: Message) -> NodeReply:
    """Return the reply in one of Flower's messages; a failure if it has an error or a malformed record."""
    request_id = message.metadata.reply_to_message_id
    if message.has_error():
        return NodeReply(request_id, Failure(_reason(message.error)))
    try:
        client, digest, content = read_record(message.content)
    except RecordError as error:
        return NodeReply(request_id, Failure(f"WireError: {error}"))
    return NodeReply(request_id, content, client, digest)


def _reason(error: Error) -> str:
    """Return an error of Flower in one line, with the last line of a traceback that is not blank."""
    lines = [line for line in (error.reason or "").splitlines() if line.strip()]
    meaning = FLOWER_ERRORS.get(error.code, f"Flower's error {error.code}")
    return f"{meaning}: {lines[-1].strip()}"[:MAX_REASON_LENGTH] if lines else meaning
