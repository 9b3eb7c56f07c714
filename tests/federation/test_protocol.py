"""What both sides know before the first message, and which messages they read."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.rounds import Federation, composition, on_three_values, small
from torch import nn

from onebasin.codecs.chain import Chain
from onebasin.codecs.dense import Fp32
from onebasin.codecs.warmup_schedule import WarmupSchedule
from onebasin.federation.messages import Request, write_request
from onebasin.federation.protocol import Protocol
from onebasin.learning.task import Task
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Section

MakeTask = Callable[[list[list[float]], list[int]], Task]


@pytest.fixture
def protocol(quadratic: MakeTask) -> Protocol:
    """The protocol of two rounds on three values."""
    return Federation(on_three_values(), quadratic([[8.0, 0.0, -8.0]] * 2, [1, 1])).client.protocol


@pytest.fixture(scope="module")
def digits() -> Federation:
    """A federation that has not begun."""
    return Federation(small("fedavg"))


def test_both_sides_of_a_run_know_the_same() -> None:
    made = Federation(composition("onebasin with batch norm"))
    one, other = made.server.protocol, made.client.protocol
    assert one.run == other.run == int(made.config.identity(), 16)
    assert one.number == other.number == one.run >> 32
    assert one.parameters == other.parameters
    assert one.buffers == other.buffers
    assert (one.sections, one.limit, one.rounds, one.clients) == (other.sections, other.limit, 3, 4)


@pytest.mark.parametrize(
    ("name", "deltas", "forwards"),
    [
        ("fedavg", False, False),
        ("shared seed, int8", False, False),
        ("top-k both ways", True, False),
        ("fedpaq", False, False),
        ("relayed signs", True, True),
        ("fedmask", False, False),
        ("local-only", False, False),
        ("onebasin", True, False),
    ],
)
def test_requests_encode_deltas_where_the_downlink_is_a_chain(name: str, deltas: bool, forwards: bool) -> None:
    protocol = Federation(composition(name)).client.protocol
    assert (protocol.sends_deltas, protocol.forwards_updates) == (deltas, forwards)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("fedavg", Fp32), ("stc", Chain), ("opening", WarmupSchedule), ("onebasin", Chain)],
)
def test_the_uplink_is_what_the_method_says(name: str, kind: type) -> None:
    assert type(Federation(composition(name)).client.protocol.uplink) is kind


# Messages


def message(protocol: Protocol, round: int = 1, sender: int = SERVER) -> bytes:
    return protocol.write(round, sender, [write_request(Request.TRAIN)])


def test_a_message_is_read_by_whom_it_is_from(protocol: Protocol) -> None:
    read = protocol.read(message(protocol, 2, 1), 1)
    assert (read.run, read.round, read.sender) == (protocol.number, 2, 1)
    assert read.require("do") == b"\x01"


@pytest.mark.parametrize(
    ("round", "sender", "expected", "reason"),
    [
        (1, 0, 1, "the message is from 0, not from 1"),
        (1, SERVER, 1, "the message is from 4294967295, not from 1"),
        (0, 1, 1, "the message is of round 0; the run has rounds 1 to 2"),
        (3, 1, 1, "the message is of round 3; the run has rounds 1 to 2"),
    ],
)
def test_of_another_sender_or_round_it_is_refused(
    protocol: Protocol, round: int, sender: int, expected: int, reason: str
) -> None:
    with pytest.raises(WireError, match=reason):
        protocol.read(message(protocol, round, sender), expected)


@pytest.mark.parametrize("change", ["seed=1", "training.lr=0.25", "method.uplink=int8", "federation.rounds=3"])
def test_of_another_run_it_is_refused(quadratic: MakeTask, protocol: Protocol, change: str) -> None:
    task = quadratic([[8.0, 0.0, -8.0]] * 2, [1, 1])
    other = Federation(on_three_values("fedavg", change), task).client.protocol
    with pytest.raises(WireError, match=f"the message is of run {other.number:08x}, not of {protocol.number:08x}"):
        protocol.read(message(other), SERVER)


def test_longer_than_any_message_of_its_run_it_is_refused_unread(protocol: Protocol) -> None:
    fits = protocol.write(1, 0, [Section(Kind.UPDATE, "update", bytes(protocol.limit - 100))])
    assert len(fits) <= protocol.limit
    protocol.read(fits, 0)
    with pytest.raises(WireError, match=f"at most {protocol.limit:,} are allowed here"):
        protocol.read(protocol.write(1, 0, [Section(Kind.UPDATE, "update", bytes(protocol.limit))]), 0)


@pytest.mark.parametrize(
    "name",
    [
        "fp16 both ways, batch norm",
        "top-k both ways",
        "bicompfl",
        "scaffold",
        "onebasin with batch norm",
        "own starts, signatures",
        "own starts, repair by clients",
        "own masks",
        "own starts, least squares, experts",
    ],
)
def test_no_message_of_a_run_is_longer_than_its_limit(name: str) -> None:
    made = Federation(composition(name))
    limit = made.server.protocol.limit
    for exchange in made.exchanges():
        for data in (*exchange.orders.values(), *exchange.replies.values()):
            assert isinstance(data, bytes)
            assert len(data) < limit


@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused(digits: Federation, data: bytes) -> None:
    with pytest.raises(WireError):
        digits.client.protocol.read(data, SERVER)


# Models


def test_the_same_seed_gives_the_same_model_and_never_the_same_memory(protocol: Protocol) -> None:
    one, other = (protocol.initial_model(9)[0]["w"] for _ in range(2))
    assert one.tolist() == other.tolist() == [2.0, 2.0, 2.0]
    one += 1
    assert protocol.initial_model(9)[0]["w"].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({}, "it has no parameters; every parameter must be float32"),
        ({"p": torch.zeros(2, dtype=torch.float64)}, "p is torch.float64; every parameter must be float32"),
        ({"p": torch.zeros(2), "q": torch.zeros(1, dtype=torch.complex64)}, "buffer q is torch.complex64"),
    ],
)
def test_a_model_that_no_codec_encodes_is_refused(
    digits: Federation, tensors: dict[str, torch.Tensor], reason: str
) -> None:
    model = nn.Module()
    for name, value in tensors.items():
        if name == "p":
            model.register_parameter(name, nn.Parameter(value))
        else:
            model.register_buffer(name, value)
    with pytest.raises(ValueError, match=f"task.model='mlp': {reason}"):
        Protocol(digits.config, digits.task, model)


def test_which_values_are_sent_is_known_where_the_uplink_draws_them_alike(quadratic: MakeTask) -> None:
    fragments = ("method.uplink=fragment 3 by=size | fp32", "federation.rounds=4")
    made = Federation(on_three_values("fedavg", *fragments), quadratic([[0.0] * 3] * 2, [1, 1]))
    masks = [made.client.protocol.sent_mask(round) for round in (1, 2, 3, 4)]
    assert [mask["w"].tolist() for mask in masks if mask is not None] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
        [True, False, False],
    ]
    dense = Federation(on_three_values(), quadratic([[0.0] * 3] * 2, [1, 1]))
    assert dense.client.protocol.sent_mask(1) is None
