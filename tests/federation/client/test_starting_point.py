"""From a request to its starting point: whose weights, to which the update is a delta, and what is refused."""

from collections.abc import Callable

import pytest
import torch
from tests.federation.rounds import Federation, composition, on_three_values, rewritten, small

from onebasin.core.layout import Tensors
from onebasin.core.seeds import derive
from onebasin.core.state import State
from onebasin.federation.client.starting_point import (
    ORDER_FACT,
    ROUND_FACT,
    begin_work,
    own_seed,
    reordered,
    sends_delta,
)
from onebasin.federation.client.work import Work
from onebasin.federation.messages import Request, write_request, write_seed
from onebasin.federation.neuron_messages import NewOrder
from onebasin.learning.task import Task
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Section

MakeTask = Callable[[list[list[float]], list[int]], Task]
TRAIN, UPDATE, MODEL, KEEP = Request.TRAIN, Request.SEND_UPDATE, Request.SEND_MODEL, Request.KEEP_MODEL
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]


def on_values(quadratic: MakeTask, *changes: str, method: str = "fedavg") -> Federation:
    return Federation(on_three_values(method, *changes), quadratic(TARGETS, [1, 1]))


def begin(made: Federation, state: State, data: bytes, client: int = 0) -> Work:
    """Begin the work, and check that the state is not touched."""
    before = state.to_bytes()
    work = begin_work(made.config, made.client.protocol, client, state, data)
    assert state.to_bytes() == before
    return work


def order(made: Federation, *sections: Section, asked: Request = TRAIN | UPDATE, round: int = 1) -> bytes:
    return made.server.protocol.write(round, SERVER, [write_request(asked), *sections])


def weights(made: Federation, *values: float) -> Section:
    return Section(Kind.UPDATE, "weights", made.server.protocol.fp32.encode({"w": torch.tensor(values)}))


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


# Whose weights


def test_a_client_begins_with_the_weights_that_are_sent(quadratic: MakeTask) -> None:
    made = on_values(quadratic)
    own = State({"weights": {"w": torch.tensor([9.0, 9.0, 9.0])}, "buffers": {}})
    for state in (State(), own):
        work = begin(made, state, order(made, weights(made, 1.0, 2.0, 3.0)))
        assert work.start.weights["w"].tolist() == work.known_model["w"].tolist() == [1.0, 2.0, 3.0]
        assert not work.own
        assert (work.round, work.client, work.request) == (1, 0, TRAIN | UPDATE)
        assert (work.start.optimizer, work.start.memory, work.start.correction) == ({}, {}, {})
        assert (work.start.trainable, work.start.masking, work.order, work.broadcast) == (None, None, None, None)


def test_a_seed_stands_for_the_weights_that_it_draws(quadratic: MakeTask) -> None:
    # `QuadraticTask` begins at the seed modulo 7
    made = on_values(quadratic, "method.start=shared-seed")
    work = begin(made, State(), order(made, write_seed(12)))
    assert work.start.weights["w"].tolist() == [5.0, 5.0, 5.0]
    assert not work.own


def test_without_a_model_in_the_request_it_begins_with_the_one_that_it_keeps(quadratic: MakeTask) -> None:
    made = on_values(quadratic, "method.start=local")
    kept = State({"weights": {"w": torch.tensor([1.0, 2.0, 3.0])}, "buffers": {}})
    work = begin(made, kept, order(made, asked=TRAIN | MODEL))
    assert work.own
    assert work.start.weights["w"].tolist() == [1.0, 2.0, 3.0]


def test_who_keeps_none_begins_with_that_of_its_own_seed(quadratic: MakeTask) -> None:
    made = on_values(quadratic, "method.start=local")
    for client in (0, 1):
        work = begin(made, State(), order(made, asked=TRAIN | MODEL), client)
        assert work.own
        assert work.start.weights["w"].tolist() == [float(own_seed(made.config, client) % 7)] * 3
    assert own_seed(made.config, 1) == derive(made.config.seed, "own-init", 1) != own_seed(made.config, 0)


def test_deltas_are_added_to_the_model_that_a_client_has() -> None:
    made = Federation(composition("top-k both ways")).play(1)
    expected = made.server.state.slots["held"]
    work = begin(made, made.engine.state_of(2), made.server.open(2)[2], 2)
    assert work.broadcast is not None
    assert work.broadcast.version == 1
    assert same(work.start.weights, expected)
    assert same(work.known_model, expected)
    assert same(work.start.buffers, made.server.state.slots["buffers"])
    with pytest.raises(WireError, match="since version 0, but this client has no model"):
        begin(made, State(), made.server.open(2)[2], 2)


def test_what_a_client_remembers_goes_into_its_phase(quadratic: MakeTask) -> None:
    made = on_values(quadratic, "training.keep_optimizer=true", "training.momentum=0.5")
    remembered = {"optimizer": {"w:momentum_buffer": torch.ones(3)}, "objective": {"w": torch.full((3,), 2.0)}}
    work = begin(made, State(remembered), order(made, weights(made, 0.0, 0.0, 0.0)))
    assert same(work.start.optimizer, remembered["optimizer"])
    assert same(work.start.memory, remembered["objective"])


def test_hooks_add_their_correction(quadratic: MakeTask) -> None:
    # c = [1, 2, 3], c_i = [1, 0, -1]: c - c_i = [0, 2, 4] is added to every gradient
    made = on_values(quadratic, method="scaffold")
    control = Section(Kind.UPDATE, "control", made.server.protocol.fp32.encode({"w": torch.tensor([1.0, 2.0, 3.0])}))
    state = State({"control": {"w": torch.tensor([1.0, 0.0, -1.0])}})
    work = begin(made, state, order(made, weights(made, 0.0, 0.0, 0.0), control))
    assert work.start.correction["w"].tolist() == [0.0, 2.0, 4.0]


def test_only_what_will_be_sent_is_trained(quadratic: MakeTask) -> None:
    fragments = ("method.uplink=fragment 3 by=size | fp32", "method.trains=sent", "method.start=local")
    made = on_values(quadratic, *fragments)
    for round in (1, 2):
        work = begin(made, State(), order(made, weights(made, 0.0, 0.0, 0.0), round=round))
        assert work.start.trainable is not None
        assert work.start.trainable["w"].tolist() == [place == round - 1 for place in range(3)]
    work = begin(made, State(), order(made, asked=TRAIN | MODEL))
    assert work.start.trainable is None, "a whole model is trained as a whole"


def test_an_update_that_is_sent_as_a_mask_is_trained_towards_the_noise_of_its_round_and_client() -> None:
    made = Federation(composition("fedmrn"))
    orders = made.server.open(1)
    first, again, other = (begin(made, State(), orders[client], client) for client in (0, 0, 1))
    noises = [work.start.masking.noise for work in (first, again, other) if work.start.masking is not None]
    assert same(noises[0], noises[1])
    assert not same(noises[0], noises[2])
    assert first.start.masking is not None
    assert first.start.masking.signed


# Neuron orders


def test_a_neuron_order_is_taken_once() -> None:
    made = Federation(composition("own starts, weights"))
    protocol = made.client.protocol
    spec = protocol.neurons.spec
    kept = protocol.initial_model(1)[0]
    state, perms = State({"weights": kept, "buffers": {}}), spec.random(2)
    assert reordered(protocol, state, None) is state
    moved = reordered(protocol, state, NewOrder(4, perms))
    assert same(moved.slots["weights"], spec.apply(kept, perms))
    assert moved.facts == {ORDER_FACT: 4}
    for number in (3, 4):
        assert reordered(protocol, moved, NewOrder(number, perms)) is moved
    assert reordered(protocol, moved, NewOrder(5, perms)).facts == {ORDER_FACT: 5}
    assert state.facts == {}


def test_a_request_that_brings_an_order_begins_in_it() -> None:
    made = Federation(composition("own starts, signatures"))
    asked = made.server.close(list(made.engine.exchange(made.server.open(1))))
    for client in (1, 3):
        kept = made.engine.state_of(client)
        work = begin(made, kept, asked[client], client)
        assert work.order is not None
        assert work.own
        assert same(
            work.start.weights, made.client.protocol.neurons.spec.apply(kept.slots["weights"], work.order.perms)
        )


# What is refused


def test_a_request_of_a_round_before_the_last_one_is_refused(quadratic: MakeTask) -> None:
    made = on_values(quadratic)
    state = State({"objective": {"w": torch.zeros(3)}}, {ROUND_FACT: 2})
    brought = weights(made, 0.0, 0.0, 0.0)
    with pytest.raises(WireError, match="the order is of round 1; round 2 is answered already"):
        begin(made, state, order(made, brought, round=1))
    assert begin(made, state, order(made, brought, round=2)).round == 2, "a round may have several exchanges"


def test_of_another_sender_round_or_run_it_is_refused(quadratic: MakeTask) -> None:
    made = on_values(quadratic)
    protocol = made.server.protocol
    with pytest.raises(WireError, match="the message is from 1, not from"):
        begin(made, State(), protocol.write(1, 1, [write_request(TRAIN)]))
    with pytest.raises(WireError, match="is of round 3; the run has rounds 1 to 2"):
        begin(made, State(), order(made, round=3))
    other = on_values(quadratic, "seed=1")
    with pytest.raises(WireError, match="the message is of run"):
        begin(made, State(), order(other, weights(other, 0.0, 0.0, 0.0)))


def test_weights_without_their_buffers_are_refused() -> None:
    made = Federation(small("fedavg", "task.model.norm=batch"))
    data = made.server.open(1)[0]
    begin(made, State(), data)
    with pytest.raises(WireError, match="has no section 'buffers'"):
        begin(made, State(), rewritten(data, without=["buffers"]))


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("fedavg", TRAIN | UPDATE, True),
        ("own starts, naive average", TRAIN | MODEL, False),
        ("adopt-one", TRAIN | KEEP, False),
        ("onebasin", MODEL, True),
        ("onebasin", TRAIN | KEEP, True),
    ],
)
def test_who_sends_a_delta_by_the_uplinks_codec(name: str, asked: Request, expected: bool) -> None:
    assert sends_delta(Federation(composition(name)).client.protocol, asked) == expected
