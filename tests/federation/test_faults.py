"""Faults and hostile messages: the reason is recorded, and the round continues as if the sender had not replied."""

import errno
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import pytest
import torch
from benchmarks.hostile import Campaign
from benchmarks.mutations import WAYS, mutate

import onebasin as ob
from onebasin.alignment.models import NotFiniteWeights
from onebasin.codecs.context import CodingContext
from onebasin.codecs.dense import Fp32
from onebasin.core.clients import Reply
from onebasin.core.layout import Layout
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.engine import EngineError
from onebasin.federation.engines.single import InProcess
from onebasin.federation.messages import Report, Request, write_report, write_request, write_seed
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task
from onebasin.wire.entropy import SymbolWriter
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Section, decode_message
from onebasin.wire.numbers import write_number

MakeTask = Callable[[list[list[float]], list[int]], Task]
MakeConfig = Callable[..., RunConfig]
TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0], [4.0, 4.0, 4.0]]


def configure(*overrides: str) -> RunConfig:
    base = {
        "method": "fedavg",
        "task": {"clients": 3},
        "training": {"lr": 0.5, "batch": 4, "steps": 1},
        "federation": {"rounds": 9, "weighting": "uniform"},
    }
    return read_config(base, overrides)


class Federation:
    """A server and three clients, round by round; replies can be forged on the way."""

    def __init__(self, task: Task, *overrides: str) -> None:
        self.config = configure(*overrides)
        self.server, self.engine = Server(self.config, task), InProcess(Client(self.config, task))
        self.server.state.slots["weights"] = {"w": torch.zeros(3)}
        self.orders: Mapping[int, bytes] = {}
        self.honest: dict[int, bytes] = {}

    def open(self, round: int) -> None:
        self.orders = self.server.open(round)
        replies = dict(self.engine.exchange(self.orders))
        self.honest = {client: reply for client, reply in replies.items() if isinstance(reply, bytes)}

    def close(self, **forged: bytes) -> None:
        """Close the round with honest replies, except for those given, such as ``c1=b"..."``."""
        replies: list[Reply] = [(c, forged.get(f"c{c}", reply)) for c, reply in self.honest.items()]
        assert not self.server.close(replies)

    def reply(self, body: bytes, round: int = 1, client: int = 1, report: Report | None = None) -> bytes:
        said = write_report(report or Report(1, 1, 0.5))
        return self.server.protocol.write(round, client, [said, Section(Kind.UPDATE, "update", body)])

    def update(self, *values: float) -> bytes:
        """Return the body of an update that no codec writes, with NaN."""
        w = torch.tensor(values, dtype=torch.float32)
        return Fp32(Layout.of({"w": w}))._head({"w": w}, CodingContext()) + struct.pack("<3f", *values)

    @property
    def weights(self) -> list[float]:
        return self.server.state.slots["weights"]["w"].tolist()


@pytest.fixture
def federation(quadratic: MakeTask) -> Federation:
    made = Federation(quadratic(TARGETS, [1, 1, 1]))
    made.open(1)
    return made


WITHOUT_1 = [3.0, 1.0, -1.0]  # the mean of half of targets 0 and 2


def forged(made: Federation) -> dict[str, tuple[bytes, str]]:
    """Return hostile replies of a client, with the reason that is recorded for each."""
    w2 = Layout.of({"w": torch.zeros(2)})
    foreign = Federation(made.engine._client.task, "training.lr=0.25")
    foreign.open(1)
    return {
        "nothing": (b"", "the message has 0 bytes"),
        "noise": (bytes(range(100)), "the message begins with"),
        "a bit flipped": (made.honest[1][:-20] + bytes([made.honest[1][-20] ^ 1]) + made.honest[1][-19:], "checksum"),
        "cut short": (made.honest[1][:-1], ""),
        "another's": (made.honest[2], "the message is from 2, not from 1"),
        "another run's": (foreign.honest[1], "the message is of run "),
        "of a later round": (made.reply(made.update(1, 1, 1), round=2), "the reply is to round 2, not to round 1"),
        "of no round": (made.reply(made.update(1, 1, 1), round=10), "is of round 10; the run has rounds 1 to 9"),
        "another shape": (made.reply(Fp32(w2).encode({"w": torch.zeros(2)})), "the body is not fp32 for this model"),
        "too few values": (made.reply(made.update(1, 1, 1)[:-4]), "the body has 12 bytes, not 16"),
        "NaN": (made.reply(made.update(0, math.nan, 0)), "w has 1 values that are NaN or infinite, of 3"),
        "infinity": (made.reply(made.update(0, 0, -math.inf)), "w has 1 values that are NaN or infinite, of 3"),
        "no examples": (made.reply(made.update(1, 1, 1), report=Report(0, 1)), "reports that it holds no examples"),
        "an order": (made.orders[1], "the message is from"),
        "too long": (made.reply(bytes(10**6)), "bytes; at most "),
    }


def test_hostile_replies_are_refused_with_their_reasons(federation: Federation) -> None:
    before = federation.server
    for what, (message, reason) in forged(federation).items():
        before.open(1)
        before.state.slots["weights"] = {"w": torch.zeros(3)}
        federation.close(c1=message)
        assert set(before.result.failures) == {1}, what
        assert before.result.failures[1].startswith(f"WireError: {reason}" if what == "nothing" else "WireError: "), (
            what
        )
        assert reason in before.result.failures[1], what
        assert federation.weights == WITHOUT_1, what
        assert set(before.result.reports) == {0, 2}


def test_a_reply_that_arrives_a_round_late_is_refused(federation: Federation) -> None:
    late = federation.honest.pop(1)
    federation.close()
    assert federation.weights == WITHOUT_1
    federation.open(2)
    federation.close(c1=late)
    assert federation.server.result.failures == {1: "WireError: the reply is to round 1, not to round 2"}


def test_the_second_of_two_replies_is_not_read(federation: Federation) -> None:
    twice: list[Reply] = [(0, federation.honest[0]), (0, federation.honest[0]), (7, federation.honest[1])]
    federation.server.close([*twice, (2, federation.honest[2])])
    assert federation.weights == WITHOUT_1
    assert set(federation.server.result.remarks) == {0, 7}
    assert "nobody asked for, or a second one" in federation.server.result.remarks[0]


@pytest.mark.parametrize("combine", ["average", "momentum", "adam", "median"])
def test_a_round_whose_result_is_not_finite_does_not_count(quadratic: MakeTask, combine: str) -> None:
    made = Federation(quadratic(TARGETS, [1, 1, 1]), f"method.combine={combine}")
    kept: list[list[float]] = [made.weights]
    for round in (1, 2):  # 3e38 is a float32; twice as much, or its square, is not
        made.server.open(round)
        body = made.update(3e38, 0, 0)
        made.server.close([(client, made.reply(body, round, client)) for client in range(3)])
        kept.append(made.weights)
    assert set(made.server.result.failures) == {0, 1, 2}
    assert all("cannot be put together" in reason for reason in made.server.result.failures.values())
    assert kept[2] == kept[1]
    assert all(math.isfinite(value) for value in made.weights)


def test_a_merge_without_finite_weights_does_not_count(
    quick_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(*_: object, **__: object) -> None:
        raise NotFiniteWeights("merged by least squares: 0.weight has weights that are NaN or infinite")

    monkeypatch.setattr("onebasin.methods.aggregation._fit.fitted_model", overflow)
    config = quick_config("fedavg", "method.start=local", "method.frame=weights", "method.combine=least-squares")
    task = load_task(config)
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.close(engine.exchange(server.open(1)))
    assert set(server.result.failures) == set(range(config.task.clients))
    assert all("cannot be put together: merged by" in reason for reason in server.result.failures.values())
    assert not server.has_model


def test_a_whole_model_with_extreme_values_is_left_out(quick_config: MakeConfig) -> None:
    config = quick_config("fedavg", "method.start=local", "method.frame=weights")
    task = load_task(config)
    server, engine = Server(config, task), InProcess(Client(config, task))
    replies = {client: reply for client, reply in engine.exchange(server.open(1)) if isinstance(reply, bytes)}
    read = decode_message(replies[1])
    weights = server.protocol.whole_models.decode(read.require("weights"))
    huge = server.protocol.whole_models.encode({name: torch.full_like(value, 3e38) for name, value in weights.items()})
    sections = [Section(s.kind, s.name, huge if s.name == "weights" else s.body) for s in read.sections]
    server.close([(c, server.protocol.write(1, 1, sections) if c == 1 else reply) for c, reply in replies.items()])
    assert set(server.result.failures) == {1}
    assert "cannot be put together" in server.result.failures[1]
    assert server.state.facts["merged"] == [0, 2, 3]
    honest = Server(config, task)
    honest.open(1)
    honest.close([(c, reply) for c, reply in replies.items() if c != 1])
    for name, value in honest.state.slots["weights"].items():
        assert torch.equal(server.state.slots["weights"][name], value)


def test_an_infinite_statistic_is_refused(quick_config: MakeConfig) -> None:
    config = quick_config("fedavg", "task.model.norm=batch")
    task = load_task(config)
    server, engine = Server(config, task), InProcess(Client(config, task))
    replies = dict(engine.exchange(server.open(1)))
    assert isinstance(replies[0], bytes)
    read = decode_message(replies[0])
    buffers = server.protocol.exact.decode(read.require("buffers"))
    name = next(name for name in buffers if name.endswith("running_mean"))
    buffers[name][0] = math.inf
    sections = [Section(s.kind, s.name, server.protocol.exact.encode(buffers) if s.name == "buffers" else s.body)
                for s in read.sections]  # fmt: skip
    server.close([(0, server.protocol.write(1, 0, sections)), *((c, r) for c, r in replies.items() if c)])
    assert server.result.failures == {0: f"WireError: {name} has infinite values where the common model has none"}
    assert bool(torch.isfinite(server.state.slots["buffers"][name]).all())


# Orders that a client must not follow


def test_a_request_of_an_earlier_round_is_refused_by_clients_with_a_state(quadratic: MakeTask) -> None:
    made = Federation(quadratic(TARGETS, [1, 1, 1]), "method.uplink=error-feedback | top-k 0.34 | fp32")
    made.open(1)
    replayed = made.orders[0]
    made.close()
    made.open(2)
    made.close()
    before = made.engine.read_state(0)
    answer = made.engine.answer(0, replayed)
    assert "the order is of round 1; round 2 is answered already" in str(answer)
    assert made.engine.read_state(0) == before


def test_a_client_refuses_requests_that_its_method_does_not_have(federation: Federation) -> None:
    protocol, client = federation.server.protocol, federation.engine._client
    weights = Section(Kind.UPDATE, "weights", protocol.fp32.encode({"w": torch.zeros(3)}))
    for sections, reason in (
        (
            [write_request(Request.TRAIN | Request.SEND_SKETCH), weights],
            "asks for <Request.SEND_SKETCH: 64>, which this method",
        ),
        ([write_request(Request.TRAIN | Request.SEND_MODEL), weights], "asks for <Request.SEND_MODEL: 4>"),
        ([write_request(Request.TRAIN), write_seed(3)], r"sections that this method has no use for: ['seed']"),
        ([write_request(Request(0)), weights], "asks for nothing"),
    ):
        with pytest.raises(WireError) as error:
            client.begin(0, State(), protocol.write(1, SERVER, sections))
        assert reason in str(error.value)


def test_a_seed_of_more_than_63_bits_is_refused(quadratic: MakeTask) -> None:
    made = Federation(quadratic(TARGETS, [1, 1, 1]), "method.start=shared-seed")
    order = made.server.protocol.write(1, SERVER, [write_request(Request.TRAIN), write_seed(1 << 63)])
    with pytest.raises(WireError, match="it has 63 bits"):
        made.engine._client.begin(0, State(), order)


def test_decoding_allocates_no_more_than_the_model_needs(quadratic: MakeTask) -> None:
    """The memory that decoding takes depends on the model alone, and each round can occur only once."""
    made = Federation(quadratic(TARGETS, [1, 1, 1]), "method.downlink=ternary", "method.start=shared-seed")
    protocol, client = made.server.protocol, made.engine._client
    mark = protocol.downlink.body({"w": torch.zeros(3)}, CodingContext())[:4]
    for later, reason in ((0, "tells of round 0, once too often"), (1, "tells of round 3, once too often or before")):
        change = write_number(later) + write_number(4) + mark
        bomb = Section(Kind.UPDATE, "changes", write_number(0) + 200 * change)
        with pytest.raises(WireError, match=reason):
            client.begin(0, State(), protocol.write(3, SERVER, [write_request(Request.TRAIN), write_seed(0), bomb]))
    coded = Federation(quadratic(TARGETS, [1, 1, 1]), "method.uplink=top-k 0.5 | sign")
    coded.open(1)
    out = SymbolWriter()
    out.integer(0, 4)  # nothing told apart
    out.integer(2, 3)  # a count of two bits ...
    out.integer(1, 2)  # ... three ones, as many as there are values; and then no more bytes
    body = (
        coded.server.protocol.uplink.body(
            {"w": torch.ones(3)}, coded.server._context(1, Request.TRAIN | Request.SEND_UPDATE)
        )[:4]
        + out.finish()
    )
    coded.close(c1=coded.reply(body + bytes(200)))  # zeros at the end are as good as none, and it is read to its end
    assert coded.server.result.failures[1].startswith("Diverged: ")


# Files


def test_a_disk_that_is_full_ends_the_run_and_loses_nothing(
    quick_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick_config("scaffold", "federation.rounds=4")
    whole = ob.run(config, out=tmp_path / "whole")
    fsync, calls = os.fsync, []

    def full(file: int) -> None:
        calls.append(file)
        if len(calls) > 19:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    monkeypatch.setattr("onebasin.core.atomic_write.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        ob.run(config, out=tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.partial"))
    monkeypatch.undo()
    ob.run(config, resume=tmp_path / "run")
    assert (whole.directory / "ledger.csv").read_bytes() == (tmp_path / "run" / "ledger.csv").read_bytes()
    models = [(path / "model.safetensors").read_bytes() for path in (whole.directory, tmp_path / "run")]
    assert models[0] == models[1]


def test_a_state_that_is_damaged_during_a_run_is_named(quick_config: MakeConfig, tmp_path: Path) -> None:
    class Vandal:
        def on_reply(self, round: int, answered: int, asked: int) -> None:
            pass

        def on_round(self, record: dict[str, object]) -> None:
            (path,) = (tmp_path / "run" / "checkpoint").glob("client-000002-*")
            path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(EngineError, match=r"client-000002-000001\.safetensors: what client 2 remembers cannot be read"):
        ob.run(quick_config("scaffold"), out=tmp_path / "run", observers=[Vandal()])


def test_saved_states_are_not_kept_in_memory(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("scaffold")
    engine = InProcess(Client(config, load_task(config)))
    list(engine.exchange(Server(config, load_task(config)).open(1)))
    before = [engine.read_state(client) for client in range(4)]
    assert engine.save(tmp_path, "1").keys() == {0, 1, 2, 3}
    assert not engine._states
    assert [engine.read_state(client) for client in range(4)] == before
    assert engine.save(tmp_path, "2") == {}


# Many of them


@pytest.mark.parametrize(
    "run",
    [
        ("fedavg",),
        ("stc", "method.uplink=error-feedback | top-k 0.3 | sign", "method.downlink=error-feedback | top-k 0.3 | sign"),
        ("fedavg", "method.start=local", "method.frame=signatures", "method.alignment.features=8"),
    ],
)
def test_a_short_campaign_of_mutated_messages(run: tuple[str, ...]) -> None:
    campaign = Campaign()
    campaign.collect(*run)
    campaign.play(150)
    refused = sum(count for what, count in campaign.outcomes.items() if what.endswith("refused"))
    assert sum(campaign.outcomes.values()) == 150
    assert 50 < refused < 150


def test_mutations_are_of_every_kind_and_repeatable(federation: Federation) -> None:
    messages = [*federation.honest.values(), *federation.orders.values()]
    drawn = [mutate(messages[0], messages, Random(seed)) for seed in range(200)]
    assert {name for name, _ in drawn} == {name for name, _ in WAYS}
    assert drawn == [mutate(messages[0], messages, Random(seed)) for seed in range(200)]
    assert all(changed != messages[0] for _, changed in drawn)
