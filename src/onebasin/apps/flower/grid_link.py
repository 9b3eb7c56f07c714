"""A Flower `Grid` as the engine's link."""

from collections.abc import Iterable

from flwr.app import Error, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from onebasin.apps.flower.records import LONGEST_REASON, RecordError, read_record, write_record
from onebasin.core.clients import Failure
from onebasin.federation.engines.flower import Arrival, NodeId, Post, Ticket

SAID_BY_FLOWER = {
    1: "the node cannot load the app; is onebasin installed there?",
    2: "the node's app raised an error",
    3: "the order is no longer at the SuperLink",
    4: "the reply is no longer at the SuperLink",
    5: "the node went away",
    7: "the node does not accept the app",
    8: "the node's app was killed",
}


class GridLink:
    """What a SuperLink offers to one run."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def nodes(self) -> Iterable[NodeId]:
        return list(self._grid.get_node_ids())

    def push(self, posts: Iterable[Post], seconds: float) -> list[Ticket | None]:
        messages = [_message(post, seconds) for post in posts]
        tickets = list(self._grid.push_messages(messages))
        return [ticket or None for ticket in tickets] if tickets else [None] * len(messages)

    def pull(self, tickets: Iterable[Ticket]) -> Iterable[Arrival]:
        return [_arrival(message) for message in self._grid.pull_messages(list(tickets))]


def _message(post: Post, seconds: float) -> Message:
    ttl = max(seconds, 1.0)
    if post.client is None:
        return Message(RecordDict(), post.node, MessageType.QUERY, ttl=ttl)
    return Message(write_record(post.client, post.state, post.payload), post.node, MessageType.TRAIN, ttl=ttl)


def _arrival(message: Message) -> Arrival:
    ticket = message.metadata.reply_to_message_id
    if message.has_error():
        return Arrival(ticket, Failure(_reason(message.error)))
    try:
        client, state, content = read_record(message.content)
    except RecordError as error:
        return Arrival(ticket, Failure(f"WireError: {error}"))
    return Arrival(ticket, content, client, state)


def _reason(error: Error) -> str:
    """What happened, in a line: of a traceback the last line that says something."""
    lines = [line for line in (error.reason or "").splitlines() if line.strip()]
    said = SAID_BY_FLOWER.get(error.code, f"Flower's error {error.code}")
    return f"{said}: {lines[-1].strip()}"[:LONGEST_REASON] if lines else said
