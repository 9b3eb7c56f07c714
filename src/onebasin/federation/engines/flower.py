"""Clients run on machines of their own: a Flower SuperLink transports requests and replies.

An exchange has a deadline and a quorum. This file does not use Flower's classes: `Link` has what it needs of a
SuperLink, and `apps/flower/grid_link.py` implements it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from onebasin.core.atomic_write import write_atomically
from onebasin.core.clients import ClientId, Failure, Reply
from onebasin.core.settings import Positive
from onebasin.core.state import State
from onebasin.federation.engine import EngineError, EngineSettings

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.task import Task

NodeId = int
MessageId = str
"""The name by which the SuperLink knows a message to a node."""

_log = logging.getLogger(__name__)


class FlowerNodes(EngineSettings):
    """Clients run on machines of their own, reached through Flower.

    superlink: the name of a connection in Flower's configuration; "" for the default.
    deadline: seconds that clients have to reply to a request.
    quorum: the share of the requested clients that must reply; otherwise the run stops, and can be resumed.
    patience: seconds that a round waits for missing nodes; the first round of a process waits until the deadline.
    poll: seconds between checks for replies.
    """

    reads_client_state: ClassVar[bool] = False
    clients_bring_data: ClassVar[bool] = True

    kind: Literal["flower"] = "flower"
    superlink: str = ""
    deadline: Positive = 600.0
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    patience: Annotated[float, Field(ge=0)] = 90.0
    poll: Positive = 1.0

    def open(self, config: RunConfig, task: Task, link: Any) -> Flower:
        if link is None:
            raise EngineError("engine='flower' works where a SuperLink is: use `onebasin run` or `flwr run`")
        return Flower(link, self, len(task.parts))


@dataclass(frozen=True)
class NodeRequest:
    """A message to a node.

    node: the receiver.
    client: whose request it is; None asks which client the node has.
    digest: of the client's state from which it must start; "" for an empty state.
    payload: the encoded request.
    """

    node: NodeId
    client: ClientId | None = None
    digest: str = ""
    payload: bytes = b""


@dataclass(frozen=True)
class NodeReply:
    """The reply to a message, or the reason why there is none.

    message: the message that it replies to.
    content: the encoded reply, or a failure.
    client: the client that the node has; None if the node did not say.
    digest: of the client's state after the reply; "" for an empty state.
    """

    message: MessageId
    content: bytes | Failure
    client: ClientId | None = None
    digest: str = ""


class Link(Protocol):
    """The connection of a run to a SuperLink."""

    def nodes(self) -> Iterable[NodeId]:
        """Return the connected nodes."""
        ...

    def push(self, requests: Iterable[NodeRequest], seconds: float) -> list[MessageId | None]:
        """Send messages that must be answered within so many seconds; None for each that the SuperLink refused."""
        ...

    def pull(self, messages: Iterable[MessageId]) -> Iterable[NodeReply]:
        """Return the replies to these messages that arrived since the last call."""
        ...


class Flower:
    """The engine. Each client's state stays on its node; the engine has a digest of the state to continue from.

    A request has the digest that came with the client's last reply in time, and the client starts from that state. So
    after a late or lost reply, or after the server resumed from its checkpoint, every client continues from the state
    that the server assumes.
    """

    def __init__(
        self,
        link: Link,
        settings: FlowerNodes,
        clients: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create the engine. clients: their number. clock, sleep: replaced in tests."""
        self._link, self._settings, self._clients = link, settings, clients
        self._clock, self._sleep = clock, sleep
        self._node_of: dict[ClientId, NodeId] = {}
        self._queries: dict[MessageId, NodeId] = {}  # nodes that were asked which client they have, until they answer
        self._digests: dict[ClientId, str] = {}
        self._changed: set[ClientId] = set()
        self._first_exchange_done = False

    def exchange(self, requests: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        """Deliver requests, and yield replies and failures.

        Raises EngineError after the last of them if fewer clients replied than the quorum; the round then does not
        count.
        """
        start = self._clock()
        end = start + self._settings.deadline
        patience_end = start + self._settings.patience if self._first_exchange_done else end
        unsent, pending = dict(requests), dict[MessageId, ClientId]()
        failed: dict[ClientId, str] = {}
        answered = 0
        while unsent or pending:
            if unsent:
                seconds_left = end - self._clock()
                self._find_nodes(seconds_left)
                failed |= self._send(unsent, pending, seconds_left)
            messages = [*self._queries, *pending]
            for reply in self._link.pull(messages) if messages else ():
                if reply.message in self._queries:
                    self._register(self._queries.pop(reply.message), reply)
                elif reply.message in pending:
                    client = pending.pop(reply.message)
                    content = self._accept(client, reply)
                    if isinstance(content, bytes):
                        answered += 1
                        yield client, content
                    else:
                        failed[client] = content.reason
            now = self._clock()
            if now >= min(end, patience_end):
                failed |= dict.fromkeys(unsent, "no node that is there holds this client")
                unsent.clear()
            if now >= end:
                failed |= dict.fromkeys(pending.values(), f"no answer within {self._settings.deadline:g} s")
                pending.clear()
            if unsent or pending:
                self._sleep(min(self._settings.poll, max(end - now, 0.0)))
        yield from ((client, Failure(reason)) for client, reason in failed.items())
        self._first_exchange_done = True
        needed = math.ceil(self._settings.quorum * len(requests))
        if answered < needed:
            reasons = "; ".join(f"client {client}: {reason}" for client, reason in sorted(failed.items())[:3])
            raise EngineError(
                f"{answered} of {len(requests)} clients answered, and engine.quorum={self._settings.quorum:g} asks for "
                f"{needed} ({reasons}); resume the run when they are back"
            )

    def _find_nodes(self, seconds: float) -> None:
        """Ask new nodes which client they have, and forget nodes that are no longer connected."""
        connected = set(self._link.nodes())
        self._node_of = {client: node for client, node in self._node_of.items() if node in connected}
        unknown = sorted(connected - {*self._node_of.values(), *self._queries.values()})
        messages = self._link.push([NodeRequest(node) for node in unknown], seconds) if unknown else []
        self._queries |= {message: node for message, node in zip(messages, unknown, strict=True) if message}

    def _register(self, node: NodeId, reply: NodeReply) -> None:
        """Remember which client a node has, from its reply."""
        client = reply.client
        if isinstance(reply.content, Failure) or client is None:
            _log.warning("node %s does not say whom it holds: %s", node, reply.content)
        elif not 0 <= client < self._clients:
            _log.warning("node %s holds client %s; this run has clients 0 to %s", node, client, self._clients - 1)
        elif client in self._node_of:
            _log.warning("nodes %s and %s both hold client %s; the first is asked", self._node_of[client], node, client)
        else:
            self._node_of[client] = node

    def _send(
        self, unsent: dict[ClientId, bytes], pending: dict[MessageId, ClientId], seconds: float
    ) -> dict[ClientId, str]:
        """Send the requests of clients whose node is known; return the reasons for those that were refused.

        Sent requests are removed from `unsent`, and accepted ones are added to `pending`.
        """
        ready = [client for client in unsent if client in self._node_of]
        requests = [NodeRequest(self._node_of[c], c, self._digests.get(c, ""), unsent.pop(c)) for c in ready]
        messages = self._link.push(requests, seconds) if requests else []
        pending |= {message: client for message, client in zip(messages, ready, strict=True) if message}
        return {c: "the SuperLink did not take the order" for c, m in zip(ready, messages, strict=True) if not m}

    def _accept(self, client: ClientId, reply: NodeReply) -> bytes | Failure:
        """Return the content of a reply; record the digest of the client's state, if the client itself replied."""
        if reply.client is not None and reply.client != client:
            self._node_of.pop(client, None)
            return Failure(f"the node now holds client {reply.client}")
        if isinstance(reply.content, bytes) or reply.client is not None:
            # A failure that the client itself reports has a digest, too: "" if its state was lost.
            self._record_digest(client, reply.digest)
        return reply.content

    def _record_digest(self, client: ClientId, digest: str) -> None:
        if digest != self._digests.get(client, ""):
            self._digests[client] = digest
            self._changed.add(client)

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        """Write the digests that changed to a folder (fact `mark`); return the file names, with `stamp`, by client."""
        written = {}
        for client in sorted(self._changed):
            written[client] = f"{DIGEST_FILE}{client:06d}-{stamp}.safetensors"
            write_atomically(folder / written[client], State(facts={"mark": self._digests[client]}).to_bytes())
        self._changed.clear()
        return written

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        self._digests = {
            client: State.from_bytes((folder / name).read_bytes()).facts["mark"] for client, name in files.items()
        }
        self._changed.clear()

    def read_state(self, client: ClientId) -> bytes:
        raise EngineError(
            f"what client {client} remembers stays on its node; methods that read it need engine='single'"
        )

    def close(self) -> None:
        """Do nothing: the nodes stay connected for the next run."""


DIGEST_FILE = "mark-"
"""The beginning of the names of a checkpoint's files that have a digest ("mark") of a client's state, not the state."""
