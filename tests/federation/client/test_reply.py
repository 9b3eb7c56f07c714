"""The reply to the byte, and what a client remembers after it."""

import struct
from collections.abc import Callable

import pytest
import torch
from tests.federation.rounds import Federation, composition, on_three_values, small

from onebasin.codecs.codec import NotFinite
from onebasin.codecs.context import CodingContext
from onebasin.core.state import State
from onebasin.federation.client.reply import finish_work
from onebasin.federation.client.starting_point import ROUND_FACT, own_seed
from onebasin.federation.client.work import Done, Work
from onebasin.federation.messages import Report, Request
from onebasin.learning.local_training import Start, Trained
from onebasin.learning.task import Task
from onebasin.wire.message import Kind, Message, Section, decode_message

MakeTask = Callable[[list[list[float]], list[int]], Task]
TRAIN, UPDATE, MODEL, KEEP, SCORE = (Request(1 << place) for place in range(5))
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
BEFORE, AFTER = {"w": torch.tensor([1.0, 2.0, 3.0])}, {"w": torch.tensor([1.5, 2.0, -1.0])}


def on_values(quadratic: MakeTask, *changes: str, method: str = "fedavg") -> Federation:
    return Federation(on_three_values(method, *changes), quadratic(TARGETS, [1, 1]))


def done(
    made: Federation, asked: Request, *, own: bool = False, trained: Trained | None = None, round: int = 1
) -> Done:
    """Return work that led from `BEFORE` to `AFTER`."""
    work = Work(0, Message(made.client.protocol.number, round, 0, ()), asked, Start(BEFORE, {}), own, BEFORE)
    return Done(work, trained or Trained(AFTER, {}, {}, 2, 0.5), Report(3, 2, 0.5))


def finish(made: Federation, work: Done, state: State | None = None) -> tuple[State, bytes]:
    """Finish the work, and check that the state given is not changed."""
    state = State() if state is None else state
    before = state.to_bytes()
    after, reply = finish_work(made.config, made.client.protocol, state, work)
    assert state.to_bytes() == before
    return after, reply


def section(reply: bytes, name: str) -> Section:
    found = decode_message(reply).section(name)
    assert found is not None
    return found


# What is sent


def test_an_update_to_the_byte(quadratic: MakeTask) -> None:
    made = on_values(quadratic)
    after, reply = finish(made, done(made, TRAIN | UPDATE))
    envelope = 2 + 1 + 4 + 1 + 1 + 4  # magic, version, run, round, sender, checksum
    report, update = 2 + 1 + 1 + 4, 2 + 4 + 12  # two numbers and a float; a head and three floats
    assert len(reply) == envelope + report + update
    message = decode_message(reply)
    assert (message.run, message.round, message.sender) == (made.client.protocol.number, 1, 0)
    assert section(reply, "report").body == b"\x03\x02" + struct.pack("<f", 0.5)
    assert section(reply, "update").body[4:] == struct.pack("<3f", 0.5, 0.0, -4.0)
    assert after == State(), "who trains on the global model has nothing to remember"


def test_a_model_is_sent_by_its_values(quadratic: MakeTask) -> None:
    made = on_values(quadratic, "method.start=local")
    _, reply = finish(made, done(made, TRAIN | MODEL, own=True))
    assert [each.name for each in decode_message(reply).sections] == ["report", "weights"]
    assert section(reply, "weights").body[4:] == struct.pack("<3f", 1.5, 2.0, -1.0)


def test_a_model_is_sent_as_its_seed_and_what_was_learned_since(quadratic: MakeTask) -> None:
    # `QuadraticTask` begins at the seed modulo 7
    chain = ("method.uplink=top-k 1.0 | fp32", "method.downlink=top-k 1.0 | fp32", "method.models=seeded")
    made = on_values(quadratic, *chain, method="adopt-one")
    protocol, seed = made.client.protocol, own_seed(made.config, 0)
    _, reply = finish(made, done(made, MODEL, own=True))
    assert section(reply, "seed") == Section(Kind.INIT, "seed", struct.pack("<Q", seed))
    delta = protocol.uplink.receive(section(reply, "update").body, CodingContext(protocol.run, 1, 0))
    assert delta["w"].tolist() == [value - seed % 7 for value in (1.5, 2.0, -1.0)]


def test_who_is_asked_for_neither_sends_a_report_alone(quadratic: MakeTask) -> None:
    made = on_values(quadratic, method="adopt-one")
    _, reply = finish(made, done(made, TRAIN | KEEP, own=True))
    assert [each.name for each in decode_message(reply).sections] == ["report"]


def test_sections_of_the_local_phase_go_as_they_are(quadratic: MakeTask) -> None:
    made = on_values(quadratic)
    work = done(made, TRAIN | UPDATE)
    sketch = Section(Kind.ALIGN, "sketch", b"any bytes")
    _, reply = finish(made, Done(work.work, work.trained, work.report, (sketch,)))
    assert section(reply, "sketch") == sketch


def test_buffers_are_sent_with_updates_and_models_and_with_nothing_else() -> None:
    made = Federation(small("fedavg", "task.model.norm=batch", "method.start=local", "method.frame=signatures"))
    sent = []
    for exchange in made.exchanges():
        reply = exchange.replies[0]
        assert isinstance(reply, bytes)
        sent.append([each.name for each in decode_message(reply).sections])
    assert sent == [["report", "signatures"], ["report", "weights", "buffers"], ["report", "update", "buffers"]]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_sent(quadratic: MakeTask, value: float) -> None:
    made = on_values(quadratic)
    spoiled = Trained({"w": torch.tensor([0.0, value, 0.0])}, {}, {}, 1, 0.5)
    with pytest.raises(NotFinite, match="w has 1 values that are NaN or infinite, of 3"):
        finish(made, done(made, TRAIN | UPDATE, trained=spoiled))


# What is remembered


def test_residuals_of_the_uplink_are_kept_and_sent_with_the_next_update(quadratic: MakeTask) -> None:
    # of [0.5, 0, -4] one value is sent, -4; of [0.5, 0, -4] + [0.5, 0, 0] again -4, and [1, 0, 0] is kept
    made = on_values(quadratic, "method.uplink=error-feedback | top-k 0.34 | fp32")
    first, _ = finish(made, done(made, TRAIN | UPDATE))
    assert first.slots["uplink/error-feedback"]["w"].tolist() == [0.5, 0.0, 0.0]
    assert first.facts == {ROUND_FACT: 1}
    second, _ = finish(made, done(made, TRAIN | UPDATE, round=2), first)
    assert second.slots["uplink/error-feedback"]["w"].tolist() == [1.0, 0.0, 0.0]
    assert second.facts == {ROUND_FACT: 2}


def test_a_model_is_kept_if_the_request_says_so(quadratic: MakeTask) -> None:
    made = on_values(quadratic, method="adopt-one")
    after, _ = finish(made, done(made, TRAIN | KEEP, own=True))
    assert after.slots.keys() == {"weights", "buffers"}
    assert torch.equal(after.slots["weights"]["w"], AFTER["w"])


def test_an_own_model_stays_while_it_is_sent_and_goes_when_the_global_one_comes(quadratic: MakeTask) -> None:
    made = on_values(quadratic, method="adopt-one")
    kept = State({"weights": AFTER, "buffers": {}}, {ROUND_FACT: 1})
    after, _ = finish(made, done(made, MODEL, own=True), kept)
    assert torch.equal(after.slots["weights"]["w"], AFTER["w"])
    after, _ = finish(made, done(made, TRAIN | UPDATE, round=2), kept)
    assert "weights" not in after.slots
    assert "buffers" not in after.slots


@pytest.mark.parametrize("keep", ["true", "false"])
def test_an_optimizer_is_kept_where_the_training_says_so(quadratic: MakeTask, keep: str) -> None:
    made = on_values(quadratic, f"training.keep_optimizer={keep}")
    momenta = {"w:momentum_buffer": torch.ones(3)}
    after, _ = finish(made, done(made, TRAIN | UPDATE, trained=Trained(AFTER, {}, momenta, 1, 0.5)))
    assert after.slots == ({"optimizer": momenta} if keep == "true" else {})


def test_a_global_model_by_deltas_is_kept_with_its_version() -> None:
    made = Federation(composition("top-k both ways")).play()
    state = made.engine.state_of(1)
    assert {"held", "moved", "uplink/error-feedback"} <= state.slots.keys()
    assert state.facts["version"] == 1, "that of round 2 was not yet sent"
    assert state.facts[ROUND_FACT] == 2


def test_a_new_order_is_remembered_with_the_neurons_in_it() -> None:
    made = Federation(composition("own starts, signatures"))
    asked = made.server.close(list(made.engine.exchange(made.server.open(1))))
    before = made.engine.state_of(2)
    work = made.client.begin(2, before, asked[2])
    after, _ = made.client.finish(before, made.client.train(work))
    assert after.facts == {ROUND_FACT: 1, "frame": 1}
    assert work.order is not None
    moved = made.client.protocol.neurons.spec.apply(before.slots["weights"], work.order.perms)
    assert all(torch.equal(after.slots["weights"][name], value) for name, value in moved.items())
