"""Requests, reports and seeds to the byte; and the table of which sections answer which request."""

import math
import struct
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.rounds import COMPOSITIONS, Federation, composition, on_three_values, rewritten

from onebasin.core.clients import Failure
from onebasin.core.state import State
from onebasin.federation.messages import (
    Report,
    Request,
    SectionTable,
    read_report,
    read_request,
    read_seed,
    write_report,
    write_request,
    write_seed,
)
from onebasin.learning.task import Task
from onebasin.wire.error import WireError
from onebasin.wire.message import NAMES, SERVER, Kind, Message, Section

TRAIN, UPDATE, MODEL, KEEP, SCORE, SIGNATURES, SKETCH, STATISTICS = Request
MakeTask = Callable[[list[list[float]], list[int]], Task]


def message(*sections: Section) -> Message:
    return Message(0, 1, 0, sections)


# Requests


def test_a_request_is_one_byte_of_flags() -> None:
    assert write_request(TRAIN | UPDATE) == Section(Kind.CONTROL, "do", b"\x03")
    assert write_request(TRAIN | KEEP | SIGNATURES).body == b"\x29"
    assert write_request(Request(255)).body == b"\xff"


@given(st.integers(1, 255), st.integers(0, 255))
def test_a_request_is_read_where_the_run_has_it_and_refused_elsewhere(asked: int, allowed: int) -> None:
    written = message(write_request(Request(asked)))
    if asked & ~allowed:
        with pytest.raises(WireError, match="which this method has no use for"):
            read_request(written, Request(allowed))
    else:
        assert read_request(written, Request(allowed)) == asked


@pytest.mark.parametrize(
    ("body", "reason"), [(b"\0", "asks for nothing"), (b"", "has 0 bytes, not 1"), (b"\x01\x01", "has 2 bytes, not 1")]
)
def test_what_is_no_request_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        read_request(message(Section(Kind.CONTROL, "do", body)), Request(255))


def test_a_message_without_a_request_is_refused() -> None:
    with pytest.raises(WireError, match="has no section 'do'"):
        read_request(message(), Request(255))


@pytest.mark.parametrize(
    ("asked", "brings"),
    [
        (TRAIN, True),
        (TRAIN | UPDATE, True),
        (TRAIN | UPDATE | SCORE | SKETCH, True),
        (TRAIN | MODEL, False),
        (TRAIN | KEEP, False),
        (TRAIN | KEEP | SIGNATURES, False),
        (MODEL, False),
        (SCORE, False),
    ],
)
def test_who_trains_on_the_global_model_receives_it(asked: Request, brings: bool) -> None:
    assert asked.brings_model == brings


# Seeds


def test_a_seed_is_eight_bytes_and_charged_as_an_initial_model() -> None:
    assert write_seed(258) == Section(Kind.INIT, "seed", b"\x02\x01\0\0\0\0\0\0")
    assert read_seed(message(write_seed((1 << 63) - 1))) == (1 << 63) - 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\0" * 7, "has 7 bytes, not 8"), (b"\0" * 9, "has 9 bytes"), (b"\0" * 7 + b"\x80", "it has 63 bits")],
)
def test_what_is_no_seed_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        read_seed(message(Section(Kind.INIT, "seed", body)))


# Reports


def test_a_report_is_two_short_numbers_and_a_loss() -> None:
    # 300 examples are 0xAC 0x02 (seven bits a byte, the lowest first); 0.5 is 0x3F000000
    assert write_report(Report(300, 2, 0.5)) == Section(Kind.CONTROL, "report", b"\xac\x02\x02\0\0\0\x3f")


def test_a_score_is_two_more_floats_if_it_was_asked_for() -> None:
    scored = write_report(Report(1, 1, 0.5, accuracy=1.0, test_loss=2.0)).body
    assert scored == b"\x01\x01\0\0\0\x3f" + b"\0\0\x80\x3f" + b"\0\0\0\x40"


SINGLE = st.floats(allow_infinity=False, width=32)


@given(st.integers(0, 2**35 - 1), st.integers(0, 2**35 - 1), SINGLE, SINGLE.filter(lambda x: not math.isnan(x)), SINGLE)
def test_a_report_goes_round(examples: int, steps: int, loss: float, accuracy: float, test_loss: float) -> None:
    plain, scored = Report(examples, steps, loss), Report(examples, steps, loss, accuracy, test_loss)
    for report in (plain, scored):
        assert repr(read_report(message(write_report(report)))) == repr(report)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_infinite_number_in_a_report_is_refused(place: int) -> None:
    numbers = [0.5, 0.5, 0.5]
    numbers[place] = -math.inf
    body = b"\x01\x01" + struct.pack("<3f", *numbers)
    with pytest.raises(WireError, match="the report has an infinite number"):
        read_report(message(Section(Kind.CONTROL, "report", body)))


def test_a_report_of_another_length_is_refused() -> None:
    body = write_report(Report(1, 1, 0.5, 0.5, 0.5)).body
    for size in {*range(len(body))} - {6}:  # 6: one without a score
        with pytest.raises(WireError):
            read_report(message(Section(Kind.CONTROL, "report", body[:size])))
    with pytest.raises(WireError, match="too many or too few"):
        read_report(message(Section(Kind.CONTROL, "report", body + b"\0")))


# The table


def table(*, model: str = "weights", buffers: bool = False, hooks: str = "") -> SectionTable:
    split = (frozenset(names.split()) for names in (model, hooks))
    return SectionTable(Request(255), frozenset(), next(split), buffers, next(split))


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (TRAIN, "report control"),
        (TRAIN | KEEP, "report control"),
        (TRAIN | UPDATE, "report control update buffers"),
        (TRAIN | MODEL, "report control seed update buffers"),
        (MODEL, "report seed update buffers"),
        (TRAIN | KEEP | SIGNATURES, "report control signatures"),
        (TRAIN | MODEL | SKETCH | STATISTICS, "report control seed update buffers sketch statistics"),
        (TRAIN | UPDATE | SCORE, "report control update buffers"),
        (KEEP, "report"),
        (SCORE, "report"),
    ],
)
def test_which_sections_answer_a_request(asked: Request, names: str) -> None:
    assert table(model="seed update", buffers=True, hooks="control").of_reply(asked) == set(names.split())


def test_without_buffers_and_hooks_there_are_none_of_theirs() -> None:
    assert table().of_reply(TRAIN | UPDATE) == {"report", "update"}
    assert table().of_reply(TRAIN | MODEL) == {"report", "weights"}


@given(st.integers(0, 255), st.integers(0, 255), st.booleans(), st.sampled_from(["", "control"]))
def test_who_is_asked_for_two_things_sends_the_sections_of_both(
    one: int, other: int, buffers: bool, hooks: str
) -> None:
    sections = table(buffers=buffers, hooks=hooks)
    both = sections.of_reply(Request(one)) | sections.of_reply(Request(other))
    assert sections.of_reply(Request(one | other)) == both


ALLOWED: Mapping[str, tuple[Request, str]] = {
    "fedavg": (TRAIN | UPDATE, "do weights buffers"),
    "scaffold": (TRAIN | UPDATE, "do weights buffers control"),
    "local-only": (TRAIN | KEEP | SCORE, "do"),
    "stc": (TRAIN | UPDATE, "do weights buffers seed changes version"),
    "fedmask": (TRAIN | UPDATE | SCORE, "do weights buffers seed"),
    "onebasin": (TRAIN | UPDATE | MODEL | KEEP, "do weights buffers seed changes version"),
    "fine-tuned scores": (TRAIN | UPDATE | SCORE, "do weights buffers"),
    "own starts, signatures": (TRAIN | UPDATE | MODEL | KEEP | SIGNATURES, "do weights buffers permutation"),
    "own starts, repair by clients": (
        TRAIN | UPDATE | MODEL | KEEP | SKETCH | STATISTICS,
        "do weights buffers permutation",
    ),
    "own masks": (TRAIN | UPDATE | MODEL | KEEP, "do weights buffers permutation"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_run_has_the_requests_and_sections_that_its_method_uses(name: str) -> None:
    sections = Federation(composition(name)).server.protocol.sections
    asked, names = ALLOWED[name]
    assert sections.allowed == asked
    assert sections.of_requests == set(names.split())


# Whole runs

SENT: Mapping[str, Mapping[Request, str]] = {
    "fedavg": {TRAIN | UPDATE: "report update"},
    "scaffold": {TRAIN | UPDATE: "report update control"},
    "local-only": {TRAIN | KEEP | SCORE: "report"},
    "fedmask": {TRAIN | UPDATE | SCORE: "report update"},
    "onebasin with batch norm": {
        TRAIN | KEEP: "report",
        MODEL: "report seed update buffers",
        TRAIN | UPDATE: "report update buffers",
    },
    "adopt-one": {TRAIN | KEEP: "report", MODEL: "report weights", TRAIN | UPDATE: "report update"},
    "own starts, signatures": {
        TRAIN | KEEP | SIGNATURES: "report signatures",
        MODEL: "report weights",
        TRAIN | UPDATE: "report update",
    },
    "own starts, repair by clients": {
        TRAIN | MODEL | SKETCH | STATISTICS: "report weights buffers sketch statistics",
        TRAIN | UPDATE: "report update buffers",
    },
    "own masks": {TRAIN | MODEL: "report seed update", TRAIN | UPDATE: "report update"},
}
"""What servers of some compositions ask for, and what has to come back."""


def names_of(data: bytes | Failure, protocol_of: Federation, sender: int) -> set[str]:
    assert isinstance(data, bytes)
    return {section.name for section in protocol_of.server.protocol.read(data, sender).sections}


@pytest.mark.parametrize("name", SENT)
def test_what_servers_ask_for_and_what_comes_back(name: str) -> None:
    made = Federation(composition(name))
    found: dict[Request, set[str]] = {}
    for exchange in made.exchanges():
        for client, asked in exchange.requests.items():
            names = names_of(exchange.replies[client], made, client)
            assert found.setdefault(asked, names) == names
    assert found == {asked: set(names.split()) for asked, names in SENT[name].items()}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_every_message_of_a_run_has_the_sections_of_the_table(name: str) -> None:
    made = Federation(composition(name))
    sections = made.server.protocol.sections
    for exchange in made.exchanges():
        for client, asked in exchange.requests.items():
            assert asked & ~sections.allowed == Request(0)
            assert names_of(exchange.orders[client], made, SERVER) <= sections.of_requests
            assert names_of(exchange.replies[client], made, client) == sections.of_reply(asked)
    assert made.server.result.failures == {}


@pytest.mark.parametrize("name", SENT)
def test_a_reply_with_a_section_more_or_less_is_refused_and_changes_nothing(name: str) -> None:
    made = Federation(composition(name))
    forger = made.another_server()
    for exchange in made.exchanges():
        saved, before = made.server.save(), made.state()
        client = max(exchange.replies)
        honest = exchange.replies[client]
        assert isinstance(honest, bytes)
        names = names_of(honest, made, client)
        forged = {f"without {name}": rewritten(honest, without=[name]) for name in names}
        forged |= {f"with {name}": rewritten(honest, Section(Kind.UPDATE, name, b"")) for name in {*NAMES} - names}
        for what, reply in forged.items():
            forger.restore(saved)
            assert forger.close([(client, reply)]) == {}, what
            reason = "WireError: the message has no section 'report'" if what == "without report" else "; expected ["
            assert forger.result.failures.keys() == {client}, what
            assert reason in forger.result.failures[client], what
            assert forger.round.buffer.empty, what
            assert State(forger.state.slots, forger.state.facts).to_bytes() == before, what


@pytest.mark.parametrize("name", SENT)
def test_a_request_with_a_foreign_section_is_refused_and_changes_nothing(name: str) -> None:
    made = Federation(composition(name))
    foreign = {*NAMES} - made.server.protocol.sections.of_requests
    for exchange in made.exchanges():
        for client, order in exchange.orders.items():
            before = made.engine.read_state(client)
            for each in foreign:
                answer = made.engine.answer(client, rewritten(order, Section(Kind.UPDATE, each, b"")))
                assert answer == Failure(
                    f"WireError: the order has sections that this method has no use for: [{each!r}]"
                )
            assert made.engine.read_state(client) == before


def test_a_request_without_what_the_objective_exchanges_is_refused() -> None:
    made = Federation(composition("scaffold"))
    order = made.server.open(1)[0]
    answer = made.engine.answer(0, rewritten(order, without=["control"]))
    assert answer == Failure("WireError: the order has no section 'control'")
    assert made.engine.read_state(0) == State().to_bytes()


@pytest.mark.parametrize(
    ("method", "start"), [("fedavg", "broadcast"), ("fedavg", "shared-seed"), ("scaffold", "broadcast")]
)
def test_a_request_to_train_on_the_global_model_that_lacks_it_is_refused(
    quadratic: MakeTask, method: str, start: str
) -> None:
    config = on_three_values(method, f"method.start={start}")
    made = Federation(config, quadratic([[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]], [1, 1]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    answer = made.engine.answer(0, rewritten(made.server.open(1)[0], without=["weights", "seed"]))
    assert isinstance(answer, Failure)
