"""The Flower engine's loop, on a link that the test plays: who is there, who answers what, and when."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from onebasin.core.clients import Failure, Reply
from onebasin.federation.engine import EngineError
from onebasin.federation.engines.flower import Arrival, Flower, Link, Post
from onebasin.federation.engines.flower import FlowerNodes as Engine

A, B = "a" * 32, "b" * 32


@dataclass
class Played:
    """A SuperLink on a clock of its own. replies: seconds after which a node answers an order, and how."""

    there: dict[int, int] = field(default_factory=lambda: {10: 0, 11: 1, 12: 2})
    replies: dict[int, tuple[float, Callable[[Post, str], list[Arrival]]]] = field(default_factory=dict)
    joins: dict[int, float] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    now: float = 0.0
    posts: list[Post] = field(default_factory=list)
    _due: list[tuple[float, list[Arrival]]] = field(default_factory=list)

    def nodes(self) -> Iterable[int]:
        return [node for node in self.there if self.joins.get(node, 0.0) <= self.now]

    def push(self, posts: Iterable[Post], seconds: float) -> list[str | None]:
        tickets: list[str | None] = []
        for post in posts:
            self.posts.append(post)
            ticket = f"ticket {len(self.posts)}"
            if post.client is None:
                self._due.append((self.now, [Arrival(ticket, b"", self.there[post.node])]))
            else:
                after, answer = self.replies.get(post.node, (1.0, echo))
                self._due.append((self.now + after, answer(post, ticket)))
            tickets.append(None if post.node in self.refused and post.client is not None else ticket)
        return tickets

    def pull(self, tickets: Iterable[str]) -> Iterable[Arrival]:
        ready = [arrivals for due, arrivals in self._due if due <= self.now]
        self._due = [(due, arrivals) for due, arrivals in self._due if due > self.now]
        return [arrival for arrivals in ready for arrival in arrivals]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def echo(post: Post, ticket: str) -> list[Arrival]:
    return [Arrival(ticket, b"re: " + post.payload, post.client)]


def with_residuals(mark: str) -> Callable[[Post, str], list[Arrival]]:
    return lambda post, ticket: [Arrival(ticket, b"yes", post.client, mark)]


def failing(reason: str, client: int | None, mark: str = "") -> Callable[[Post, str], list[Arrival]]:
    return lambda post, ticket: [Arrival(ticket, Failure(reason), client, mark)]


def open_flower(link: Played, clients: int = 3, **settings: float) -> Flower:
    asked = Engine.model_validate({"kind": "flower", "deadline": 60.0, "patience": 20.0, **settings})
    checked: Link = link
    return Flower(checked, asked, clients, lambda: link.now, link.sleep)


ORDERS = {0: b"zero", 1: b"one", 2: b"two"}


def test_every_client_gets_its_order_and_every_reply_comes_back() -> None:
    link = Played()
    replies = dict(open_flower(link).exchange(ORDERS))
    assert replies == {client: b"re: " + order for client, order in ORDERS.items()}
    assert [post.node for post in link.posts] == [10, 11, 12, 10, 11, 12]  # the roll call, then the orders


def test_the_roll_is_called_once() -> None:
    link = Played()
    engine = open_flower(link)
    for _ in range(3):
        list(engine.exchange(ORDERS))
    assert sum(post.client is None for post in link.posts) == 3


def test_replies_come_as_they_arrive() -> None:
    link = Played(replies={10: (5.0, echo), 11: (1.0, echo), 12: (3.0, echo)})
    assert [client for client, _ in open_flower(link).exchange(ORDERS)] == [1, 2, 0]


def test_a_late_reply_is_a_failure_and_the_round_goes_on_with_a_quorum() -> None:
    link = Played(replies={12: (61.0, echo)})
    replies = dict(open_flower(link, quorum=0.6).exchange(ORDERS))
    assert replies[2] == Failure("no answer within 60 s")
    assert replies[0] == b"re: zero"
    assert link.now == 60.0


def test_a_late_reply_is_not_taken_in_the_next_round() -> None:
    link = Played(replies={12: (61.0, echo)})
    engine = open_flower(link, quorum=0.5)
    list(engine.exchange(ORDERS))
    link.replies[12] = (5.0, echo)
    assert dict(engine.exchange(dict.fromkeys(ORDERS, b"second")))[2] == b"re: second"


def test_below_the_quorum_the_round_does_not_count() -> None:
    link = Played(replies={11: (61.0, echo), 12: (2.0, failing("the node went away", None))})
    exchange = open_flower(link, quorum=0.5).exchange(ORDERS)
    replies: list[Reply] = []
    with pytest.raises(EngineError, match=r"1 of 3 clients answered, and engine.quorum=0.5 asks for 2 \(client 1: no"):
        replies.extend(exchange)
    assert sorted(replies, key=lambda reply: reply[0]) == [
        (0, b"re: zero"),
        (1, Failure("no answer within 60 s")),
        (2, Failure("the node went away")),
    ]


def test_a_duplicate_and_a_foreign_reply_are_ignored() -> None:
    def twice(post: Post, ticket: str) -> list[Arrival]:
        return [*echo(post, ticket), Arrival(ticket, b"again", post.client), Arrival("nobody's", b"foreign", 1)]

    replies = list(open_flower(Played(replies={10: (1.0, twice)})).exchange(ORDERS))
    assert sorted(replies, key=lambda reply: reply[0]) == [(c, b"re: " + order) for c, order in ORDERS.items()]


def test_a_node_that_comes_in_the_middle_of_a_round_takes_part() -> None:
    link = Played(joins={12: 15.0})
    assert dict(open_flower(link).exchange(ORDERS))[2] == b"re: two"
    assert link.now >= 15.0


def test_at_first_a_node_is_waited_for_until_the_deadline_and_later_as_long_as_patience_says() -> None:
    link = Played(joins={12: 50.0})
    engine = open_flower(link)
    assert dict(engine.exchange(ORDERS))[2] == b"re: two"
    del link.there[12]
    began = link.now
    assert dict(engine.exchange(ORDERS))[2] == Failure("no node that is there holds this client")
    assert link.now - began == 20.0


def test_two_nodes_that_hold_one_client(caplog: pytest.LogCaptureFixture) -> None:
    link = Played({10: 0, 11: 0, 12: 1})
    assert dict(open_flower(link, 2).exchange({0: b"zero", 1: b"one"})) == {0: b"re: zero", 1: b"re: one"}
    assert "nodes 10 and 11 both hold client 0; the first is asked" in caplog.text
    assert 11 not in [post.node for post in link.posts if post.client is not None]


def test_a_node_of_a_client_that_the_run_does_not_have(caplog: pytest.LogCaptureFixture) -> None:
    assert dict(open_flower(Played({10: 0, 11: 7}), 1).exchange({0: b"zero"})) == {0: b"re: zero"}
    assert "node 11 holds client 7; this run has clients 0 to 0" in caplog.text


def test_a_node_that_changed_its_client_is_found_again() -> None:
    link = Played({10: 0, 11: 1})
    engine = open_flower(link, 2)
    orders = {0: b"zero", 1: b"one"}
    list(engine.exchange(orders))
    link.there = {10: 1, 11: 0}
    link.replies = {10: (1.0, failing("", 1)), 11: (1.0, failing("", 0))}
    with pytest.raises(EngineError, match="the node now holds client 1"):
        list(engine.exchange(orders))
    link.replies = {}
    assert dict(engine.exchange(orders)) == {0: b"re: zero", 1: b"re: one"}
    assert link.posts[-2:] == [Post(11, 0, "", b"zero"), Post(10, 1, "", b"one")]


def test_an_order_that_the_superlink_refuses_is_a_failure() -> None:
    replies = dict(open_flower(Played(refused={11})).exchange(ORDERS))
    assert replies[1] == Failure("the SuperLink did not take the order")


def test_an_order_begins_from_the_state_of_the_last_reply_that_was_taken(tmp_path: Path) -> None:
    link = Played({10: 0, 11: 1}, {10: (1.0, with_residuals(A)), 11: (61.0, with_residuals(A))})
    engine = open_flower(link, 2)
    orders = {0: b"zero", 1: b"one"}
    list(engine.exchange(orders))
    link.replies = {10: (1.0, with_residuals(B)), 11: (5.0, with_residuals(B))}
    list(engine.exchange(orders))
    assert [(post.client, post.state) for post in link.posts[-2:]] == [(0, A), (1, "")]

    saved = engine.save(tmp_path, "000002")
    list(engine.exchange(orders))
    assert {post.state for post in link.posts[-2:]} == {B}
    assert engine.save(tmp_path, "000003") == {}  # the marks are what they were
    resumed = open_flower(link, 2)
    resumed.restore(tmp_path, saved)
    list(resumed.exchange(orders))
    assert {post.state for post in link.posts[-2:]} == {B}


def test_a_client_that_failed_keeps_its_state_and_one_that_lost_it_begins_anew() -> None:
    link = Played({10: 0}, {10: (1.0, with_residuals(A))})
    engine = open_flower(link, 1)
    list(engine.exchange({0: b"zero"}))
    for reason, client, mark in (("the node went away", None, ""), ("TrainingFailed: no", 0, A), ("lost", 0, "")):
        link.replies = {10: (1.0, failing(reason, client, mark))}
        with pytest.raises(EngineError, match=reason):
            list(engine.exchange({0: b"zero"}))
        assert link.posts[-1].state == A
    with pytest.raises(EngineError):
        list(engine.exchange({0: b"zero"}))
    assert link.posts[-1].state == ""


def test_what_clients_remember_cannot_be_read() -> None:
    with pytest.raises(EngineError, match="stays on its node"):
        open_flower(Played()).read_state(0)
