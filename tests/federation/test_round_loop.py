"""The round loop: replies in the order of the requests, what is charged, recorded and told to observers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.rounds import Federation, on_three_values, small

from onebasin.core.clients import Failure, Reply
from onebasin.core.state import State
from onebasin.federation.engine import Engine
from onebasin.federation.round_loop import Record, federate, in_order
from onebasin.learning.metrics import evaluate
from onebasin.learning.task import Task
from onebasin.networks.weights import copy_into, parameters_of
from onebasin.wire.ledger import Ledger

MakeTask = Callable[[list[list[float]], list[int]], Task]
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]


# Order


@given(st.permutations(range(5)))
def test_replies_are_yielded_in_the_order_of_the_requests(came: list[int]) -> None:
    orders = dict.fromkeys((3, 0, 4, 1, 2), b"")
    replies: list[Reply] = [(client, bytes([client])) for client in came]
    assert list(in_order(orders, iter(replies))) == [(client, bytes([client])) for client in orders]


def test_a_reply_is_yielded_as_soon_as_those_before_it_are_there() -> None:
    taken: list[int] = []

    def coming() -> Iterator[Reply]:
        for client in (0, 2, 1, 3):
            taken.append(client)
            yield client, b""

    yielded = in_order(dict.fromkeys(range(4), b""), coming())
    assert next(yielded)[0] == 0
    assert taken == [0]
    assert next(yielded)[0] == 1
    assert taken == [0, 2, 1]
    assert [client for client, _ in yielded] == [2, 3]


def test_who_was_not_asked_is_not_waited_for() -> None:
    replies: list[Reply] = [(7, b"x"), (0, b""), (1, b"")]
    assert [client for client, _ in in_order({0: b"", 1: b""}, iter(replies))] == [0, 1]


# Whole runs


class Kept:
    """A journal in memory."""

    def __init__(self, history: list[Record] | None = None) -> None:
        self._history = history or []
        self.states: list[bytes] = []

    @property
    def history(self) -> list[Record]:
        return self._history

    def commit(self, record: Record, ledger: Ledger, server: State, engine: Engine) -> None:
        self._history.append(record)
        self.states.append(server.to_bytes())


class Watching:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, int, int]] = []
        self.rounds: list[int] = []

    def on_reply(self, round: int, answered: int, asked: int) -> None:
        self.replies.append((round, answered, asked))

    def on_round(self, record: dict[str, Any]) -> None:
        self.rounds.append(record["round"])


class Losing:
    """An engine that loses the replies of some clients, and yields the others backwards."""

    def __init__(self, made: Federation, *lost: int) -> None:
        self._engine, self._lost = made.engine, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def exchange(self, orders: Mapping[int, bytes]) -> Iterator[Reply]:
        for client, reply in reversed(list(self._engine.exchange(orders))):
            yield client, Failure("gone") if client in self._lost else reply


def run(made: Federation, engine: Any = None, journal: Kept | None = None) -> tuple[Kept, Ledger, Watching]:
    journal, ledger, watching = journal or Kept(), Ledger(), Watching()
    federate(made.server, engine or made.engine, made.task, ledger, journal, [watching])
    return journal, ledger, watching


def test_rounds_are_recorded_charged_and_followed(quadratic: MakeTask) -> None:
    made = Federation(on_three_values(), quadratic(TARGETS, [1, 1]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    journal, ledger, watching = run(made)
    assert watching.rounds == [1, 2]
    assert watching.replies == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]
    first, second = journal.history
    # losses before the step: 1/2 (8^2 + 8^2) = 64 and 1/2 (16^2 + 8^2) = 160; from [2, 4, -4]: 34 and 82
    assert (first["train_loss"], second["train_loss"]) == (112.0, 58.0)
    assert (first["round"], first["replies"], first["failures"], first["decoded"]) == (
        1,
        2,
        [],
        {"equal": 2, "different": 0},
    )
    assert second["decoded"] == {"equal": 4, "different": 0}
    envelope = 2 + 1 + 4 + 1 + 1 + 4  # magic, version, run, round, sender, checksum
    coded = 2 + 4 + 12  # a section's head, a body's, three floats
    order, reply = envelope + 3 + coded, envelope + 8 + coded  # what to do; a report
    assert first["bytes"]["total"] == 2 * (order + reply)
    assert second["bytes"]["total"] == ledger.totals()["total"] == 4 * (order + reply)
    assert first["bytes"]["init"] == 2 * coded
    assert second["bytes"]["total_multicast"] == 2 * order + 4 * reply
    assert "remarks" not in first
    assert "masks" not in first


def test_failures_and_remarks_are_recorded_by_client(quadratic: MakeTask) -> None:
    targets = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0], [4.0, 4.0, 4.0]]
    config = on_three_values("fedavg", "method.norm_bound={limit=0.001}", "federation.rounds=1", clients=3)
    made = Federation(config, quadratic(targets, [1, 1, 1]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    journal, _, watching = run(made, Losing(made, 1))
    (record,) = journal.history
    assert record["replies"] == 2
    assert record["failures"] == [{"client": 1, "reason": "gone"}]
    assert [remark["client"] for remark in record["remarks"]] == [0, 2]
    assert watching.replies == [(1, 1, 3), (1, 2, 3), (1, 3, 3)]


def test_sums_do_not_depend_on_who_is_fast() -> None:
    found = []
    for reverse in (False, True):
        made = Federation(small("fedavg"))
        journal, _, _ = run(made, Losing(made) if reverse else None)
        found.append(journal.states)
    assert found[0] == found[1]


def test_only_the_rounds_that_are_left_are_played() -> None:
    made = Federation(small("fedavg", "federation.rounds=3"))
    whole, _, _ = run(made)
    again = Federation(made.config, made.task)
    again.play(1)
    journal, _, watching = run(again, journal=Kept(whole.history[:1]))
    assert watching.rounds == [2, 3]
    assert journal.states == whole.states[1:]


def test_the_global_model_is_scored_in_some_rounds_and_in_the_last() -> None:
    made = Federation(small("fedavg", "federation.rounds=3", "federation.evaluate_every=2"))
    journal, _, _ = run(made)
    scores = [(record["accuracy"], record["loss"]) for record in journal.history]
    assert scores[0] == (None, None)
    assert None not in scores[1] + scores[2]
    model = made.task.workspace()
    copy_into(parameters_of(model), made.server.state.slots["weights"])
    score = evaluate(model, made.task.dataset.test)
    assert scores[2] == (score.accuracy, score.loss)


@pytest.mark.parametrize(("method", "way"), [("local-only", "mean"), ("best-client", "max")])
def test_clients_that_keep_their_models_are_scored_by_theirs(method: str, way: str) -> None:
    made = Federation(small(method, "federation.rounds=1"))
    journal, _, _ = run(made)
    reported = [report.accuracy for report in made.server.result.reports.values()]
    assert len(reported) == 4
    expected = max(reported) if way == "max" else sum(reported) / 4
    assert journal.history[0]["accuracy"] == pytest.approx(expected)


def test_masks_are_described_by_layer() -> None:
    journal, _, _ = run(Federation(small("fedpm", "federation.rounds=1")))
    assert list(journal.history[0]["masks"]) == ["fc1", "fc2"]
