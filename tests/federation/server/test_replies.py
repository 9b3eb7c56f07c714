"""Replies in one pass: what they decode to, that no model is built for it, and what is refused."""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from tests.federation.rounds import Federation, composition, on_three_values, rewritten

from onebasin.codecs.context import CodingContext
from onebasin.codecs.dense import Fp32
from onebasin.core.layout import Layout, Tensors
from onebasin.core.seeds import derive
from onebasin.federation.messages import Report, Request, write_report
from onebasin.federation.server.replies import CheckedReply, OwnModel, read_reply, require_buffers_like
from onebasin.learning.task import Task
from onebasin.wire.error import Diverged, WireError
from onebasin.wire.message import Kind, Section

MakeTask = Callable[[list[list[float]], list[int]], Task]
TRAIN, UPDATE, MODEL, KEEP = Request.TRAIN, Request.SEND_UPDATE, Request.SEND_MODEL, Request.KEEP_MODEL

# By hand, on three values


@pytest.fixture
def three(quadratic: MakeTask) -> Federation:
    """A server at [0, 0, 0] and one client with two examples."""
    made = Federation(on_three_values(clients=1), quadratic([[8.0, 0.0, -8.0]], [2]))
    made.server.state.slots["weights"] = {"w": torch.zeros(3)}
    return made


def context(made: Federation, round: int = 1) -> CodingContext:
    return CodingContext(made.server.protocol.run, round, 0)


def test_an_update_is_what_the_client_encoded(three: Federation) -> None:
    reply = dict(three.engine.exchange(three.server.open(1)))[0]
    assert isinstance(reply, bytes)
    found = read_reply(three.server.protocol, reply, TRAIN | UPDATE, context(three))
    assert found.report == Report(2, 1, 64.0)  # 1/2 (8^2 + 8^2), before the step
    assert found.update is not None
    assert found.update["w"].tolist() == [4.0, 0.0, -4.0]
    assert found.raw_update is not None
    assert found.raw_update[4:] == struct.pack("<3f", 4.0, 0.0, -4.0)
    assert (found.own_model, found.buffers, found.extra) == (None, {}, {})
    assert found.is_coded


REPORT = Report(1, 1, 0.5)


def reply_of(made: Federation, report: Report = REPORT, round: int = 1) -> bytes:
    w = torch.tensor([1.0, 2.0, 3.0])
    body = Fp32(Layout.of({"w": w})).encode({"w": w})
    return made.server.protocol.write(round, 0, [write_report(report), Section(Kind.UPDATE, "update", body)])


def test_what_is_no_reply_to_the_request_is_refused(three: Federation) -> None:
    honest = reply_of(three)
    for reply, reason in (
        (reply_of(three, round=2), "the reply is to round 2, not to round 1"),
        (reply_of(three, Report(0, 1, 0.5)), "the client reports that it holds no examples"),
        (reply_of(three, Report(1, 1, math.inf)), "the report has an infinite number"),
        (honest[:-1] + bytes([honest[-1] ^ 1]), "checksum does not fit"),
        (rewritten(honest, without=["report"]), "the message has no section 'report'"),
        (rewritten(honest, without=["update"]), "the reply has ['report']; expected ['report', 'update']"),
        (rewritten(honest, Section(Kind.ALIGN, "sketch", b"")), "the reply has ['report', 'update', 'sketch']; exp"),
    ):
        with pytest.raises(WireError) as error:
            read_reply(three.server.protocol, reply, TRAIN | UPDATE, context(three))
        assert reason in str(error.value)


def test_of_another_client_it_is_refused(three: Federation) -> None:
    reply = reply_of(three)
    with pytest.raises(WireError, match="the message is from 0, not from 5"):
        read_reply(three.server.protocol, reply, TRAIN | UPDATE, CodingContext(three.server.protocol.run, 1, 5))


def test_a_body_that_decodes_to_other_values_has_diverged(three: Federation) -> None:
    reply = reply_of(three)
    body = three.server.protocol.read(reply, 0).require("update")
    other = body[:4] + struct.pack("<3f", 1.0, 2.0, 4.0)
    forged = rewritten(reply, Section(Kind.UPDATE, "update", other), without=["update"])
    with pytest.raises(Diverged):
        read_reply(three.server.protocol, forged, TRAIN | UPDATE, context(three))


def test_a_report_alone_has_nothing_that_was_coded(three: Federation) -> None:
    reply = three.server.protocol.write(1, 0, [write_report(Report(1, 1, 0.5))])
    found = read_reply(three.server.protocol, reply, TRAIN | KEEP, context(three))
    assert found == CheckedReply(Report(1, 1, 0.5))
    assert not found.is_coded


@pytest.mark.parametrize("field", ["update", "own_model", "buffers", "extra"])
def test_values_are_counted_as_coded(field: str) -> None:
    values: dict[str, Any] = {field: OwnModel() if field == "own_model" else {"w": {"w": torch.zeros(1)}}}
    assert CheckedReply(Report(1, 1), **values).is_coded


# Whole models


def test_values_are_a_model_as_they_are(three: Federation) -> None:
    weights: Tensors = {"w": torch.ones(3)}
    assert OwnModel(weights=weights).build(three.server.protocol) is weights


def test_a_seed_and_a_delta_are_the_model_that_the_seed_begins_plus_the_delta(three: Federation) -> None:
    # `QuadraticTask` begins at the seed modulo 7
    model = OwnModel(seed=9, delta={"w": torch.tensor([0.5, 0.0, -1.0])})
    assert model.build(three.server.protocol)["w"].tolist() == [2.5, 2.0, 1.0]


def test_a_seed_and_a_mask_are_the_weights_of_the_seed_where_they_are_kept() -> None:
    made = Federation(composition("own masks"))
    protocol = made.server.protocol
    assert protocol.seed_and_mask is not None
    exchange = next(made.exchanges())
    reply = exchange.replies[2]
    assert isinstance(reply, bytes)
    found = read_reply(protocol, reply, TRAIN | MODEL, CodingContext(protocol.run, 1, 2)).own_model
    assert found is not None
    assert found.seed == derive(made.config.seed, "own-init", 2)
    assert found.mask is not None
    assert all(value.unique().tolist() in ([0.0, 1.0], [1.0], [0.0]) for value in found.mask.values())
    weights = found.build(protocol)
    full = OwnModel(seed=found.seed, mask={name: torch.ones_like(flags) for name, flags in found.mask.items()})
    for (name, value), flags in zip(
        ((name, value) for name, value in weights.items() if name.endswith("weight")), found.mask.values(), strict=True
    ):
        assert torch.equal(value, full.build(protocol)[name] * flags)


# No model is built

DECODED: Mapping[str, set[str]] = {
    "fedavg": {"update"},
    "scaffold": {"update", "control"},
    "top-k both ways": {"update", "buffers"},
    "bicompfl": {"update"},
    "fedmask": {"update"},
    "signed noise, progressive": {"update"},
    "own starts, naive average": {"update", "weights"},
    "onebasin with batch norm": {"update", "seed+delta", "buffers"},
    "own masks": {"update", "seed+mask"},
    "own starts, repair by clients": {"update", "weights", "buffers", "sketch", "statistics"},
    "own starts, signatures": {"update", "weights", "signatures"},
}
"""What the replies of some compositions hold."""


def kinds(reply: CheckedReply) -> set[str]:
    own = reply.own_model
    found: dict[str, Any] = {
        "update": reply.update,
        "weights": own and own.weights,
        "seed+delta": own and own.delta,
        "seed+mask": own and own.mask,
        "buffers": reply.buffers,
        "signatures": reply.signatures,
        "sketch": reply.sketch,
        "statistics": reply.statistics,
        "control": reply.extra.get("control"),
    }
    return {kind for kind, value in found.items() if value}


@pytest.mark.parametrize("name", DECODED)
def test_replies_of_every_kind_are_decoded_without_building_a_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(task: Task, seed: int) -> None:
        raise AssertionError("a model was built")

    made = Federation(composition(name))
    server, decoded = made.server, set()
    for exchange in made.exchanges():
        with monkeypatch.context() as patched:
            patched.setattr(Task, "build_model", refuse)
            for client, reply in exchange.replies.items():
                assert isinstance(reply, bytes)
                request = exchange.requests[client]
                found = read_reply(
                    server.protocol, reply, request, server._context(client, request), server._history(request)
                )
                decoded |= kinds(found)
                if found.own_model is not None and found.own_model.seed is not None:
                    with pytest.raises(AssertionError, match="a model was built"):
                        found.own_model.build(server.protocol)
    assert decoded == DECODED[name]


# Buffers


def test_a_buffer_is_infinite_only_where_that_of_the_global_model_is() -> None:
    common = {"mask": torch.tensor([-torch.inf, 0.0]), "n": torch.tensor(3)}
    require_buffers_like(CheckedReply(Report(1, 1), buffers=common), common)
    require_buffers_like(CheckedReply(Report(1, 1)), common)
    with pytest.raises(WireError, match="mask has infinite values where the common model has none"):
        require_buffers_like(CheckedReply(Report(1, 1), buffers={"mask": torch.tensor([0.0, torch.inf])}), common)
