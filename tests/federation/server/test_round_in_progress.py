"""A server that is saved in the middle of a round, and goes on elsewhere as if nothing had happened."""

import json
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.rounds import COMPOSITIONS, Federation, composition, on_three_values

from onebasin.core.clients import Failure
from onebasin.core.layout import Layout
from onebasin.core.state import State
from onebasin.federation.messages import Report, Request
from onebasin.federation.round_result import RoundResult
from onebasin.federation.server.aggregation_buffer import AggregationBuffer
from onebasin.federation.server.round_in_progress import PREFIX, RoundInProgress
from onebasin.federation.server.server import Server
from onebasin.learning.task import Task
from onebasin.wire.ledger import Decoded

MakeTask = Callable[[list[list[float]], list[int]], Task]
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0], [4.0, 4.0, 4.0]]
LAYOUT = Layout.of({"w": torch.zeros(3)})


def empty_buffer(whole: bool = False) -> AggregationBuffer:
    return AggregationBuffer(LAYOUT, Layout(()), whole)


def through_bytes(saved: State) -> State:
    return State.from_bytes(saved.to_bytes())


# Whole rounds

LATE = ("federation.late=1", "federation.join_round=2")
MORE = [
    ("cohort that is caught up", ("federation.rounds=3",)),
    ("adopt-one", ("federation.cohort=3",)),
    ("own starts, signatures", (*LATE, "method.combine=median")),
    ("own starts, repair by clients", (*LATE, "method.frame=signatures")),
]
"""Changes that reach more of what a server has in the middle of a round."""


@pytest.mark.parametrize(("name", "changes"), [*((name, ()) for name in COMPOSITIONS), *MORE])
def test_a_server_restored_after_any_exchange_goes_on_with_the_same_bytes(name: str, changes: tuple[str, ...]) -> None:
    """It is restored from bytes, into a server that has not begun, before and after every exchange of the run."""
    made = Federation(composition(name, *changes))
    original, restored = made.server, made.another_server()
    restored.restore(through_bytes(original.save()))
    for round in range(1, made.config.federation.rounds + 1):
        orders = original.open(round)
        assert restored.open(round) == orders
        while orders:
            saved = original.save()
            before = saved.to_bytes()
            assert restored.save().to_bytes() == before
            restored = made.another_server()
            restored.restore(State.from_bytes(before))
            replies = list(made.engine.exchange(orders))
            orders = original.close(replies)
            assert restored.close(replies) == orders
            assert saved.to_bytes() == before, "what was saved stays as it is while the server goes on"
        assert restored.save().to_bytes() == original.save().to_bytes()
        assert repr(restored.result) == repr(original.result)
    assert original.result.failures == {}


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("fedavg", {"buffer/update", "buffer/buffers"}),
        ("scaffold", {"buffer/update", "buffer/extra/control"}),
        ("median", {"buffer/weights/0", "buffer/weights/1"}),
        ("own starts, repair by clients", {"buffer/weights/0", "buffer/buffers/0", "buffer/statistics/0"}),
        ("relayed signs", {"buffer/raw updates", "buffer/update"}),
        ("own starts, naive average", {"buffer/model"}),
    ],
)
def test_what_came_back_before_a_server_stopped_need_not_come_again(name: str, slots: set[str]) -> None:
    """Two of four replies are taken by the one server, two by the other; then they are where one server would be."""
    made = Federation(composition(name))
    first, second, alone = (made.another_server() for _ in range(3))
    orders = first.open(1)
    assert alone.open(1) == orders
    replies = list(made.engine.exchange(orders))
    assert alone.close(replies) == {}
    for client, reply in replies[:2]:
        take(first, client, reply)
    saved = first.save()
    assert {f"{PREFIX}{slot}" for slot in slots} <= saved.slots.keys()
    assert [client for client, _ in saved.facts[f"{PREFIX}requests"]] == [2, 3]
    second.restore(through_bytes(saved))
    for client, reply in replies[2:]:
        take(second, client, reply)
    second._aggregate()
    after, expected = State(second.state.slots, second.state.facts), State(alone.state.slots, alone.state.facts)
    assert after.to_bytes() == expected.to_bytes()
    assert second.result.reports == alone.result.reports


def take(server: Server, client: int, reply: bytes | Failure) -> None:
    """Do what `Server.close` does with each reply."""
    checked = server._accepted(client, reply)
    assert checked is not None
    server.result.reports[client] = checked.report


def test_between_signatures_and_models_the_orders_are_saved() -> None:
    made = Federation(composition("own starts, signatures"))
    server = made.server
    asked = server.close(list(made.engine.exchange(server.open(1))))
    saved = server.save()
    assert saved.facts[f"{PREFIX}requests"] == [[client, int(Request.SEND_MODEL)] for client in range(4)]
    assert saved.facts[f"{PREFIX}orders"] == [0, 1, 2, 3]
    for client in range(4):
        assert set(saved.slots[f"{PREFIX}order/{client}"]) == set(server.protocol.neurons.spec.groups)
    restored = made.another_server()
    restored.restore(through_bytes(saved))
    replies = [(client, Failure("gone") if client == 2 else reply) for client, reply in made.engine.exchange(asked)]
    assert restored.close(replies) == server.close(replies) == {}
    assert restored.result.failures == {2: "gone"}
    assert restored.state.facts["merged"] == [0, 1, 3]
    assert State(restored.state.slots, restored.state.facts).to_bytes() == made.state()


def test_between_reports_and_the_adopted_model_by_hand(quadratic: MakeTask) -> None:
    made = Federation(on_three_values("adopt-one", clients=3), quadratic(TARGETS, [1, 2, 1]))
    server = made.server
    second = server.close(list(made.engine.exchange(server.open(1))))
    saved = server.save()
    assert saved.facts[f"{PREFIX}requests"] == [[1, int(Request.SEND_MODEL)]]
    assert [[client, report["examples"]] for client, report in saved.facts[f"{PREFIX}result"]["reports"]] == [
        [0, 1],
        [1, 2],
        [2, 1],
    ]
    restored = made.another_server()
    restored.restore(through_bytes(saved))
    replies = list(made.engine.exchange(second))
    assert restored.close(replies) == {}
    assert server.close(replies) == {}
    assert torch.equal(restored.state.slots["weights"]["w"], server.state.slots["weights"]["w"])
    assert restored.result.reports.keys() == {0, 1, 2}
    assert dict(restored.open(2)) == dict(server.open(2))


def test_a_reply_that_was_taken_before_a_server_stopped_is_not_taken_again(quadratic: MakeTask) -> None:
    # three at half their targets; 0 comes before the server stops, again afterwards, and the others with it
    made = Federation(on_three_values("fedavg", clients=3), quadratic(TARGETS, [1, 1, 1]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    replies = list(made.engine.exchange(made.server.open(1)))
    assert made.server._accepted(*replies[0]) is not None
    restored = made.another_server()
    restored.restore(through_bytes(made.server.save()))
    assert restored.close(replies) == {}
    assert restored.result.remarks.keys() == {0}
    assert restored.state.slots["weights"]["w"].tolist() == pytest.approx([2.0, 10 / 3, -2.0], rel=1e-6)


def test_a_restored_server_has_no_round_among_its_slots() -> None:
    made = Federation(composition("scaffold"))
    orders = made.server.open(1)
    list(made.engine.exchange(orders))
    saved = made.server.save()
    assert any(slot.startswith(PREFIX) for slot in saved.slots)
    restored = made.another_server()
    restored.restore(saved)
    for names in (restored.state.slots, restored.state.facts):
        assert not any(name.startswith(PREFIX) for name in names)
    assert restored.state.slots.keys() == made.server.state.slots.keys()


# The round by itself


def test_a_round_by_hand() -> None:
    round = RoundInProgress(RoundResult(3), empty_buffer(), {4: Request.TRAIN | Request.SEND_UPDATE})
    round.buffer.update.add({"w": torch.tensor([1.0, 2.0, 3.0])}, 2.0)
    saved = round.into(State({"weights": {"w": torch.zeros(3)}}, {"met": [4]}))
    assert saved.slots["round/buffer/update"]["w"].tolist() == [2.0, 4.0, 6.0]
    assert saved.facts["round/requests"] == [[4, 3]]
    assert saved.facts["met"] == [4]
    json.dumps(saved.facts, allow_nan=False)
    found, rest = RoundInProgress.out_of(through_bytes(saved), empty_buffer())
    assert found.buffer.update.result()["w"].tolist() == [1.0, 2.0, 3.0]
    assert found.requests == {4: Request.TRAIN | Request.SEND_UPDATE}
    assert found.result == RoundResult(3)
    assert (list(rest.slots), rest.facts) == (["weights"], {"met": [4]})


def test_facts_that_change_later_are_not_those_that_were_saved() -> None:
    state = State({}, {"met": [1], "holds": {"1": 2}})
    round = RoundInProgress(RoundResult(1), empty_buffer())
    saved = round.into(state)
    state.facts["met"].append(7)
    state.facts["holds"]["1"] = 9
    round.requests[5] = Request.TRAIN
    assert (saved.facts["met"], saved.facts["holds"]) == ([1], {"1": 2})
    _, rest = RoundInProgress.out_of(saved, empty_buffer())
    rest.facts["met"].append(8)
    assert saved.facts["met"] == [1]


CLIENT = st.integers(0, 2**31)
NUMBER = st.floats(allow_infinity=False, width=32)
REPORT = st.builds(Report, st.integers(1, 2**35 - 1), st.integers(0, 2**35 - 1), NUMBER, NUMBER, NUMBER)


@given(
    st.dictionaries(CLIENT, REPORT, max_size=3),
    st.dictionaries(CLIENT, st.text(), max_size=2),
    st.dictionaries(CLIENT, st.integers(1, 255).map(Request), max_size=3),
    st.dictionaries(CLIENT, st.permutations(range(4)), max_size=3),
    st.builds(Decoded, st.integers(0, 9), st.integers(0, 9)),
)
def test_any_round_goes_through_bytes_and_back(
    reports: dict[int, Report],
    failures: dict[int, str],
    requests: dict[int, Request],
    perms: dict[int, list[int]],
    decoded: Decoded,
) -> None:
    orders = {client: {"group": torch.tensor(perm)} for client, perm in perms.items()}
    result = RoundResult(2, reports, failures, {}, decoded)
    saved = RoundInProgress(result, empty_buffer(), requests, orders).into(State())
    found, rest = RoundInProgress.out_of(through_bytes(saved), empty_buffer())
    assert repr(found.result) == repr(result)
    assert list(found.requests.items()) == list(requests.items())
    assert list(found.orders) == list(orders)
    assert all(torch.equal(found.orders[client]["group"], order["group"]) for client, order in orders.items())
    assert rest == State()
    assert found.into(rest).to_bytes() == saved.to_bytes()
