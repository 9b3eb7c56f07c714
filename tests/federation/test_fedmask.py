"""Personal masks: the overlap, the server's signs, the clients' scores, and the bytes of a round."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.test_personal_scores import SKEWED, served
from tests.stopped_runs import Stop, StopAfter
from torch import nn

import onebasin as ob
from onebasin.codecs.context import CodingContext
from onebasin.codecs.named_codecs import make_codec
from onebasin.core.clients import Failure
from onebasin.core.layout import Layout
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.read_config import read_config
from onebasin.federation.round_loop import in_order
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.data.load import Dataset, Split
from onebasin.learning.load_task import load_task
from onebasin.learning.local_training import Start, Trained
from onebasin.learning.parametrizations.supermask import Supermask
from onebasin.learning.task import Task
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, decode_message

MakeConfig = Callable[..., RunConfig]
NAME = "0.parametrizations.weight.original"

# What each of four clients learns in a round; two or more keep the first and the second weight.
LEARNED = [[2.0, 0.5, 3.0, -1.0], [0.25, 0.75, -2.0, -2.0], [1.0, -4.0, -1.0, -3.0], [-5.0, -0.5, -1.0, -4.0]]


class FourWeights(Task):
    """A linear layer of four weights, whose scores are 1 at first."""

    def build_model(self, seed: int) -> nn.Module:
        return Supermask(kept="above-zero", score=1.0).apply(nn.Sequential(nn.Linear(2, 2, bias=False)), seed, 0)


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> tuple[Server, InProcess, Client]:
    """Return a server and four clients whose training has a fixed result, whatever its start."""

    def learned(identity: str, model: nn.Module, start: Start, *_: object) -> Trained:
        scores = torch.tensor(LEARNED[int(identity.split()[-1])]).view(2, 2)
        return Trained({NAME: scores}, start.buffers, {}, 1, 0.0)

    monkeypatch.setattr("onebasin.federation.client.local_phase.train_or_reuse", learned)
    split = Split(torch.eye(2).repeat(4, 1), torch.tensor([0, 1] * 4))
    dataset = Dataset("four", split, split, ("a", "b"), (), 0, "test")
    task = FourWeights(dataset, list(torch.arange(8).split(2)), "four", {})
    config = read_config("fedmask", ["task.clients=4", "federation.rounds=3", "method.combine.score=0.5"])
    client = Client(config, task)
    return Server(config, task), InProcess(client), client


def play(server: Server, engine: InProcess, round: int) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Run a round, and return its requests and replies."""
    orders = dict(server.open(round))
    replies = dict(in_order(orders, engine.exchange(orders)))
    assert not server.close(iter(replies.items()))
    assert not server.result.failures
    return orders, {client: reply for client, reply in replies.items() if isinstance(reply, bytes)}


def test_rounds_of_four_weights_by_hand(four: tuple[Server, InProcess, Client]) -> None:
    """Three clients keep the first weight, two the second, one the third: kept by all, dropped by all, personal."""
    server, engine, client = four
    first, replies = play(server, engine, 1)
    assert server.state.slots["weights"][NAME].flatten().tolist() == [1, -1, 0, 0]
    assert [engine.state_of(each).slots["weights"][NAME].flatten().tolist() for each in range(4)] == LEARNED
    second, later = play(server, engine, 2)
    began = [client.begin(each, engine.state_of(each), second[each]).start.weights for each in range(4)]
    assert [weights[NAME].flatten().tolist() for weights in began] == [
        [2.0, -0.5, 3.0, -1.0],  # the second is turned
        [0.25, -0.5, -2.0, -2.0],
        [1.0, -4.0, -1.0, -3.0],  # agrees in all that is common
        [0.5, -0.5, -1.0, -4.0],  # the first is turned
    ]
    newcomer = client.begin(3, State(), second[3]).start.weights[NAME]
    assert newcomer.flatten().tolist() == [1, -0.5, 1, 1], "who has no mask begins as all did, and with what is common"

    envelope = 2 + 1 + 4 + 1 + 1 + 4  # magic, version, run, round, sender, checksum
    do, seed, report = 2 + 1, 2 + 8, 2 + 1 + 1 + 4 + 8
    signs = 4 + 4 * 2  # a head; a magnitude, a bit for how symbols are told and four of three symbols: 40 bits
    mask = 4 + 4  # a head; two counts and four flags: less than 32 bits, and where nothing is kept all are 0
    assert {len(order) for order in first.values()} == {envelope + do + seed}
    assert {len(order) for order in second.values()} == {envelope + do + seed + 2 + signs}
    assert len(set(second.values())) == 1, "one message for all"
    reply = envelope + report + 2 + mask
    assert [len(one) for one in [*replies.values(), *later.values()]] == [reply, reply, reply, reply - 4] * 2


def test_without_replies_every_weight_is_undecided(four: tuple[Server, InProcess, Client]) -> None:
    server, engine, client = four
    dict(engine.exchange(server.open(1)))
    server.close((each, Failure("lost")) for each in range(4))
    began = client.begin(0, engine.state_of(0), server.open(2)[0]).start.weights
    assert began[NAME].flatten().tolist() == LEARNED[0]


def test_a_request_without_a_seed_is_refused(four: tuple[Server, InProcess, Client]) -> None:
    server, engine, client = four
    play(server, engine, 1)
    order = decode_message(server.open(2)[0])
    sections = [section for section in order.sections if section.name != "seed"]
    with pytest.raises(WireError, match="seed"):
        client.begin(0, engine.state_of(0), client.protocol.write(2, SERVER, sections))


def test_all_weights_are_kept_at_first() -> None:
    model = Supermask(kept="above-zero", score=0.25).apply(nn.Sequential(nn.Linear(8, 3)), 0, 0)
    assert model[0].parametrizations.weight.original.unique().tolist() == [0.25]
    assert model.eval()[0].weight.abs().unique().tolist() == [0.5]


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=6, max_size=6))
def test_the_downlink_encodes_signs_exactly(signs: list[float]) -> None:
    sent = {"a": torch.tensor(signs[:2]), "b": torch.tensor(signs[2:]).view(2, 2)}
    coding = make_codec("ternary", Layout.of(sent))
    received = coding.receive(coding.body(sent, CodingContext()), CodingContext())
    assert all(torch.equal(received[name], value) for name, value in sent.items())


def test_clients_are_scored_with_their_own_masks(quick_config: MakeConfig, tmp_path: Path) -> None:
    run = ob.run(quick_config("fedmask", *SKEWED), out=tmp_path / "run")
    assert run.model is None, "every client has its own"
    task = load_task(run.config)
    files = sorted((tmp_path / "run" / "checkpoint").glob("client-*.safetensors"))
    kept = [State.from_bytes(file.read_bytes()).slots["weights"] for file in files]
    accuracy = sum(served(task, client, scores) for client, scores in enumerate(kept)) / 5
    assert run.summary["accuracy"]["final"] == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.8
    weights = run.summary["parameters"]
    assert run.summary["bytes"]["up"] < 3 * 5 * (weights / 8 + 60)
    common = ob.run(quick_config("fedmask", "method.score=mean", *SKEWED), out=tmp_path / "common")
    assert common.summary["accuracy"]["final"] < 0.7, "what is common to all serves nobody"


def test_a_resumed_run_equals_an_uninterrupted_one(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("fedmask", "federation.rounds=4", "federation.cohort=2", "training.keep_optimizer=true")
    whole = ob.run(config, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ob.run(config, out=tmp_path / "stopped", observers=[StopAfter(2)])
    resumed = ob.run(config, resume=tmp_path / "stopped")
    assert [record["accuracy"] for record in resumed.history] == [record["accuracy"] for record in whole.history]
    assert resumed.history[-1]["bytes"] == whole.history[-1]["bytes"]
    states = [
        {file.name: file.read_bytes() for file in (tmp_path / name / "checkpoint").glob("*-*.safetensors")}
        for name in ("whole", "stopped")
    ]
    assert states[0] == states[1]
    assert sum(name.startswith("client") for name in states[0]) >= 3


def test_clients_continue_after_lost_replies(quick_config: MakeConfig, tmp_path: Path) -> None:
    run = ob.run(quick_config("fedmask", "federation.rounds=6", "federation.dropout=0.4"), out=tmp_path / "run")
    reasons = [failure["reason"] for record in run.history for failure in record["failures"]]
    assert reasons
    assert not any("WireError" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.downlink=fp32"], "by their signs: start='shared-seed' and downlink='ternary', not 'shared-seed'"),
        (["method.downlink=ternary 2.0"], "by their signs"),
        (["method.downlink=relay"], "by their signs"),
        (["method.start=broadcast"], "by their signs: .* not 'broadcast'"),
        (
            ["federation.weighting=examples"],
            "counts the clients that keep a weight: use federation.weighting='uniform'",
        ),
        (
            ["method.uplink=mask"],
            "kept='above-zero', 'threshold' and 'overlap'; these are 'supermask above-zero', 'mask'",
        ),
        (["method.combine=beta-posterior"], "these are 'supermask above-zero', 'threshold' and 'beta-posterior'"),
        (["method.parametrization.kept=by-chance"], "these are 'supermask', 'threshold' and 'overlap'"),
        (["method.combine.share=1.0"], r"method.combine.*share: got 1.0"),
        (["method.score=fine-tuned"], "clients that keep theirs have 'personal'"),
    ],
)
def test_choices_that_do_not_go_with_personal_masks_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config("fedmask", overrides)
