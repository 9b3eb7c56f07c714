"""The Flower engine's exchange, with a simulated SuperLink: which nodes are connected, and what they reply when."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from onebasin.core.clients import Failure, Reply
from onebasin.federation.engine import EngineError
from onebasin.federation.engines.flower import Flower, Link, NodeReply, NodeRequest
from onebasin.federation.engines.flower import FlowerNodes as Engine

A, B = "a" * 32, "b" * 32


@dataclass
class SimulatedLink:
    """A SuperLink with a simulated clock.

    there: the client of each node. joins: when a node connects. refused: nodes to which it refuses requests.
    replies: seconds after which a node replies to a request, and how.
    """

    there: dict[int, int] = field(default_factory=lambda: {10: 0, 11: 1, 12: 2})
    replies: dict[int, tuple[float, Callable[[NodeRequest, str], list[NodeReply]]]] = field(default_factory=dict)
    joins: dict[int, float] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    now: float = 0.0
    requests: list[NodeRequest] = field(default_factory=list)
    _due: list[tuple[float, list[NodeReply]]] = field(default_factory=list)

    def nodes(self) -> Iterable[int]:
        return [node for node in self.there if self.joins.get(node, 0.0) <= self.now]

    def push(self, requests: Iterable[NodeRequest], seconds: float) -> list[str | None]:
        messages: list[str | None] = []
        for request in requests:
            self.requests.append(request)
            message = f"message {len(self.requests)}"
            if request.client is None:
                self._due.append((self.now, [NodeReply(message, b"", self.there[request.node])]))
            else:
                after, answer = self.replies.get(request.node, (1.0, echo))
                self._due.append((self.now + after, answer(request, message)))
            messages.append(None if request.node in self.refused and request.client is not None else message)
        return messages

    def pull(self, messages: Iterable[str]) -> Iterable[NodeReply]:
        ready = [replies_due for due, replies_due in self._due if due <= self.now]
        self._due = [(due, replies_due) for due, replies_due in self._due if due > self.now]
        return [reply for replies_due in ready for reply in replies_due]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def echo(request: NodeRequest, message: str) -> list[NodeReply]:
    return [NodeReply(message, b"re: " + request.payload, request.client)]


def with_digest(digest: str) -> Callable[[NodeRequest, str], list[NodeReply]]:
    return lambda request, message: [NodeReply(message, b"yes", request.client, digest)]


def failing(reason: str, client: int | None, digest: str = "") -> Callable[[NodeRequest, str], list[NodeReply]]:
    return lambda request, message: [NodeReply(message, Failure(reason), client, digest)]


def open_engine(link: SimulatedLink, clients: int = 3, **settings: float) -> Flower:
    asked = Engine.model_validate({"kind": "flower", "deadline": 60.0, "patience": 20.0, **settings})
    checked: Link = link
    return Flower(checked, asked, clients, lambda: link.now, link.sleep)


REQUESTS = {0: b"zero", 1: b"one", 2: b"two"}


def test_every_client_gets_its_request_and_every_reply_arrives() -> None:
    link = SimulatedLink()
    replies = dict(open_engine(link).exchange(REQUESTS))
    assert replies == {client: b"re: " + payload for client, payload in REQUESTS.items()}
    assert [request.node for request in link.requests] == [
        10,
        11,
        12,
        10,
        11,
        12,
    ]  # first the questions which client a node has


def test_nodes_are_asked_once_which_client_they_have() -> None:
    link = SimulatedLink()
    engine = open_engine(link)
    for _ in range(3):
        list(engine.exchange(REQUESTS))
    assert sum(request.client is None for request in link.requests) == 3


def test_replies_are_yielded_as_they_arrive() -> None:
    link = SimulatedLink(replies={10: (5.0, echo), 11: (1.0, echo), 12: (3.0, echo)})
    assert [client for client, _ in open_engine(link).exchange(REQUESTS)] == [1, 2, 0]


def test_a_late_reply_is_a_failure_and_the_round_continues_with_a_quorum() -> None:
    link = SimulatedLink(replies={12: (61.0, echo)})
    replies = dict(open_engine(link, quorum=0.6).exchange(REQUESTS))
    assert replies[2] == Failure("no answer within 60 s")
    assert replies[0] == b"re: zero"
    assert link.now == 60.0


def test_a_late_reply_is_not_used_in_the_next_round() -> None:
    link = SimulatedLink(replies={12: (61.0, echo)})
    engine = open_engine(link, quorum=0.5)
    list(engine.exchange(REQUESTS))
    link.replies[12] = (5.0, echo)
    assert dict(engine.exchange(dict.fromkeys(REQUESTS, b"second")))[2] == b"re: second"


def test_below_the_quorum_the_round_does_not_count() -> None:
    link = SimulatedLink(replies={11: (61.0, echo), 12: (2.0, failing("the node went away", None))})
    exchange = open_engine(link, quorum=0.5).exchange(REQUESTS)
    replies: list[Reply] = []
    with pytest.raises(EngineError, match=r"1 of 3 clients answered, and engine.quorum=0.5 asks for 2 \(client 1: no"):
        replies.extend(exchange)
    assert sorted(replies, key=lambda reply: reply[0]) == [
        (0, b"re: zero"),
        (1, Failure("no answer within 60 s")),
        (2, Failure("the node went away")),
    ]


def test_a_duplicate_and_a_foreign_reply_are_ignored() -> None:
    def twice(request: NodeRequest, message: str) -> list[NodeReply]:
        return [
            *echo(request, message),
            NodeReply(message, b"again", request.client),
            NodeReply("nobody's", b"foreign", 1),
        ]

    replies = list(open_engine(SimulatedLink(replies={10: (1.0, twice)})).exchange(REQUESTS))
    assert sorted(replies, key=lambda reply: reply[0]) == [(c, b"re: " + payload) for c, payload in REQUESTS.items()]


def test_a_node_that_connects_during_a_round_takes_part() -> None:
    link = SimulatedLink(joins={12: 15.0})
    assert dict(open_engine(link).exchange(REQUESTS))[2] == b"re: two"
    assert link.now >= 15.0


def test_the_first_round_waits_for_nodes_until_the_deadline_and_later_ones_for_patience_seconds() -> None:
    link = SimulatedLink(joins={12: 50.0})
    engine = open_engine(link)
    assert dict(engine.exchange(REQUESTS))[2] == b"re: two"
    del link.there[12]
    began = link.now
    assert dict(engine.exchange(REQUESTS))[2] == Failure("no node that is there holds this client")
    assert link.now - began == 20.0


def test_of_two_nodes_with_the_same_client_the_first_is_used(caplog: pytest.LogCaptureFixture) -> None:
    link = SimulatedLink({10: 0, 11: 0, 12: 1})
    assert dict(open_engine(link, 2).exchange({0: b"zero", 1: b"one"})) == {0: b"re: zero", 1: b"re: one"}
    assert "nodes 10 and 11 both hold client 0; the first is asked" in caplog.text
    assert 11 not in [request.node for request in link.requests if request.client is not None]


def test_a_node_with_a_client_that_the_run_does_not_have_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert dict(open_engine(SimulatedLink({10: 0, 11: 7}), 1).exchange({0: b"zero"})) == {0: b"re: zero"}
    assert "node 11 holds client 7; this run has clients 0 to 0" in caplog.text


def test_a_client_that_moved_to_another_node_is_found_again() -> None:
    link = SimulatedLink({10: 0, 11: 1})
    engine = open_engine(link, 2)
    requests = {0: b"zero", 1: b"one"}
    list(engine.exchange(requests))
    link.there = {10: 1, 11: 0}
    link.replies = {10: (1.0, failing("", 1)), 11: (1.0, failing("", 0))}
    with pytest.raises(EngineError, match="the node now holds client 1"):
        list(engine.exchange(requests))
    link.replies = {}
    assert dict(engine.exchange(requests)) == {0: b"re: zero", 1: b"re: one"}
    assert link.requests[-2:] == [NodeRequest(11, 0, "", b"zero"), NodeRequest(10, 1, "", b"one")]


def test_a_request_that_the_superlink_refuses_is_a_failure() -> None:
    replies = dict(open_engine(SimulatedLink(refused={11})).exchange(REQUESTS))
    assert replies[1] == Failure("the SuperLink did not take the order")


def test_a_request_starts_from_the_state_of_the_last_accepted_reply(tmp_path: Path) -> None:
    link = SimulatedLink({10: 0, 11: 1}, {10: (1.0, with_digest(A)), 11: (61.0, with_digest(A))})
    engine = open_engine(link, 2)
    requests = {0: b"zero", 1: b"one"}
    list(engine.exchange(requests))
    link.replies = {10: (1.0, with_digest(B)), 11: (5.0, with_digest(B))}
    list(engine.exchange(requests))
    assert [(request.client, request.digest) for request in link.requests[-2:]] == [(0, A), (1, "")]

    saved = engine.save(tmp_path, "000002")
    list(engine.exchange(requests))
    assert {request.digest for request in link.requests[-2:]} == {B}
    assert engine.save(tmp_path, "000003") == {}  # no digest has changed
    resumed = open_engine(link, 2)
    resumed.restore(tmp_path, saved)
    list(resumed.exchange(requests))
    assert {request.digest for request in link.requests[-2:]} == {B}


def test_a_client_keeps_its_state_after_a_failure_and_starts_from_an_empty_one_if_it_lost_it() -> None:
    link = SimulatedLink({10: 0}, {10: (1.0, with_digest(A))})
    engine = open_engine(link, 1)
    list(engine.exchange({0: b"zero"}))
    for reason, client, digest in (("the node went away", None, ""), ("TrainingFailed: no", 0, A), ("lost", 0, "")):
        link.replies = {10: (1.0, failing(reason, client, digest))}
        with pytest.raises(EngineError, match=reason):
            list(engine.exchange({0: b"zero"}))
        assert link.requests[-1].digest == A
    with pytest.raises(EngineError):
        list(engine.exchange({0: b"zero"}))
    assert link.requests[-1].digest == ""


def test_client_states_cannot_be_read() -> None:
    with pytest.raises(EngineError, match="stays on its node"):
        open_engine(SimulatedLink()).read_state(0)
