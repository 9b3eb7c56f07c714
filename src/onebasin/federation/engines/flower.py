"""Clients run on machines of their own: requests go to nodes through a Flower SuperLink.

Each round has a deadline and a quorum.

It knows nothing of Flower's classes, only of a `Link`: what a SuperLink offers, in our words.
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
Ticket = str

_log = logging.getLogger(__name__)


class FlowerNodes(EngineSettings):
    """Clients run on machines of their own, reached through Flower.

    superlink: the name of a connection in Flower's configuration ("": its default). deadline: seconds that clients have
    to answer a request. quorum: the share of those asked that must answer. patience: seconds that a round waits for a
    node that is not there (at first: the deadline). poll: seconds between looks for replies.
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
class Post:
    """To a node: the order to a client, who answers it from the state of this mark. No client: who are you?"""

    node: NodeId
    client: ClientId | None = None
    state: str = ""
    payload: bytes = b""


@dataclass(frozen=True)
class Arrival:
    """What came back to a post. client: whom the node holds; state: the mark of what that client now remembers."""

    ticket: Ticket
    content: bytes | Failure
    client: ClientId | None = None
    state: str = ""


class Link(Protocol):
    """A SuperLink, as a run sees it."""

    def nodes(self) -> Iterable[NodeId]:
        """The nodes that are there."""
        ...

    def push(self, posts: Iterable[Post], seconds: float) -> list[Ticket | None]:
        """Hand posts over, to be answered within so many seconds; None for those that were not taken."""
        ...

    def pull(self, tickets: Iterable[Ticket]) -> Iterable[Arrival]:
        """What has come back to these since it was last asked for."""
        ...


class Flower:
    """Clients on machines of their own. What a client remembers stays there; the engine knows the mark of it.

    A client goes on from the state whose mark came with its last reply that was taken in time. So a late or lost
    reply, or a server that goes on from its checkpoint, finds every client where the server believes it to be.
    """

    def __init__(
        self,
        link: Link,
        settings: FlowerNodes,
        clients: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._link, self._settings, self._clients = link, settings, clients
        self._clock, self._sleep = clock, sleep
        self._homes: dict[ClientId, NodeId] = {}
        self._calls: dict[Ticket, NodeId] = {}
        self._marks: dict[ClientId, str] = {}
        self._changed: set[ClientId] = set()
        self._begun = False

    def exchange(self, orders: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        """`EngineError` after the last reply when fewer than the quorum answered; the round then does not count."""
        began = self._clock()
        end = began + self._settings.deadline
        patience = began + self._settings.patience if self._begun else end
        unsent, pending = dict(orders), dict[Ticket, ClientId]()
        failed: dict[ClientId, str] = {}
        answered = 0
        while unsent or pending:
            if unsent:
                left = end - self._clock()
                self._call_roll(left)
                failed |= self._send(unsent, pending, left)
            tickets = [*self._calls, *pending]
            for arrival in self._link.pull(tickets) if tickets else ():
                if arrival.ticket in self._calls:
                    self._introduce(self._calls.pop(arrival.ticket), arrival)
                elif arrival.ticket in pending:
                    client = pending.pop(arrival.ticket)
                    reply = self._read(client, arrival)
                    if isinstance(reply, bytes):
                        answered += 1
                        yield client, reply
                    else:
                        failed[client] = reply.reason
            now = self._clock()
            if now >= min(end, patience):
                failed |= dict.fromkeys(unsent, "no node that is there holds this client")
                unsent.clear()
            if now >= end:
                failed |= dict.fromkeys(pending.values(), f"no answer within {self._settings.deadline:g} s")
                pending.clear()
            if unsent or pending:
                self._sleep(min(self._settings.poll, max(end - now, 0.0)))
        yield from ((client, Failure(reason)) for client, reason in failed.items())
        self._begun = True
        needed = math.ceil(self._settings.quorum * len(orders))
        if answered < needed:
            reasons = "; ".join(f"client {client}: {reason}" for client, reason in sorted(failed.items())[:3])
            raise EngineError(
                f"{answered} of {len(orders)} clients answered, and engine.quorum={self._settings.quorum:g} asks for "
                f"{needed} ({reasons}); resume the run when they are back"
            )

    def _call_roll(self, seconds: float) -> None:
        """Ask nodes that are new whom they hold; forget those that are gone."""
        there = set(self._link.nodes())
        self._homes = {client: node for client, node in self._homes.items() if node in there}
        strangers = sorted(there - {*self._homes.values(), *self._calls.values()})
        tickets = self._link.push([Post(node) for node in strangers], seconds) if strangers else []
        self._calls |= {ticket: node for ticket, node in zip(tickets, strangers, strict=True) if ticket}

    def _introduce(self, node: NodeId, arrival: Arrival) -> None:
        client = arrival.client
        if isinstance(arrival.content, Failure) or client is None:
            _log.warning("node %s does not say whom it holds: %s", node, arrival.content)
        elif not 0 <= client < self._clients:
            _log.warning("node %s holds client %s; this run has clients 0 to %s", node, client, self._clients - 1)
        elif client in self._homes:
            _log.warning("nodes %s and %s both hold client %s; the first is asked", self._homes[client], node, client)
        else:
            self._homes[client] = node

    def _send(
        self, unsent: dict[ClientId, bytes], pending: dict[Ticket, ClientId], seconds: float
    ) -> dict[ClientId, str]:
        """Post the orders whose clients have a node; return why some were not taken."""
        ready = [client for client in unsent if client in self._homes]
        posts = [Post(self._homes[c], c, self._marks.get(c, ""), unsent.pop(c)) for c in ready]
        tickets = self._link.push(posts, seconds) if posts else []
        pending |= {ticket: client for ticket, client in zip(tickets, ready, strict=True) if ticket}
        return {c: "the SuperLink did not take the order" for c, t in zip(ready, tickets, strict=True) if not t}

    def _read(self, client: ClientId, arrival: Arrival) -> bytes | Failure:
        """Return the reply; the mark of what the client remembers is kept if it has one to give."""
        if arrival.client is not None and arrival.client != client:
            self._homes.pop(client, None)
            return Failure(f"the node now holds client {arrival.client}")
        if isinstance(arrival.content, bytes) or arrival.client is not None:
            # A failure that the client itself reports comes with a mark too: "" where its state was lost.
            self._mark(client, arrival.state)
        return arrival.content

    def _mark(self, client: ClientId, mark: str) -> None:
        if mark != self._marks.get(client, ""):
            self._marks[client] = mark
            self._changed.add(client)

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        written = {}
        for client in sorted(self._changed):
            written[client] = f"{MARK_FILE}{client:06d}-{stamp}.safetensors"
            write_atomically(folder / written[client], State(facts={"mark": self._marks[client]}).to_bytes())
        self._changed.clear()
        return written

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        self._marks = {
            client: State.from_bytes((folder / name).read_bytes()).facts["mark"] for client, name in files.items()
        }
        self._changed.clear()

    def read_state(self, client: ClientId) -> bytes:
        raise EngineError(
            f"what client {client} remembers stays on its node; methods that read it need engine='single'"
        )

    def close(self) -> None:
        """Nodes stay, for the next run."""


MARK_FILE = "mark-"
"""What the names of a checkpoint's files begin with that hold marks rather than clients' states."""
