"""Models that are sent as the seed of their initialisation and the change since."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.federation.test_downlink_deltas import TARGETS, MakeTask, Played
from tests.stopped_runs import Stop, StopAfter

import onebasin as ob
from onebasin.codecs.context import CodingContext
from onebasin.core.seeds import derive
from onebasin.core.settings import ConfigError
from onebasin.federation.messages import Request
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.replies import read_reply
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task
from onebasin.wire.error import WireError
from onebasin.wire.message import SERVER, Kind, Section, decode_message, encode_message

CHAIN = "error-feedback | top-k 0.1 | sign"
SEEDED = {"name": "adopt-one", "start": "local", "frame": "adopt-one", "models": "seeded"}
MakeConfig = Callable[..., RunConfig]


def configure(*overrides: str) -> RunConfig:
    return read_config(
        {
            "method": {**SEEDED, "uplink": "top-k 1.0 | fp32", "downlink": "top-k 1.0 | fp32"},
            "task": {"clients": 2},
            "training": {"optimizer": "sgd", "lr": 0.5, "batch": 4, "steps": 1},
            "federation": {"rounds": 3},
        },
        overrides,
    )


def first_replies(task: Task) -> tuple[Played, bytes]:
    """Return a run in which the adopted client has just sent its model, and the replies."""
    played = Played(configure(), task)
    asked = played.server.close(list(played.engine.exchange(played.server.open(1))))
    ((client, reply),) = played.engine.exchange(asked)
    assert client == 1
    assert isinstance(reply, bytes)
    return played, reply


def test_a_model_is_sent_as_its_seed_and_a_delta(quadratic: MakeTask) -> None:
    played, reply = first_replies(quadratic(TARGETS, [1, 3]))
    message = decode_message(reply)
    assert [(s.name, s.kind) for s in message.sections] == [
        ("report", Kind.CONTROL),
        ("seed", Kind.INIT),
        ("update", Kind.UPDATE),
    ]
    protocol = played.server.protocol
    answer = read_reply(protocol, reply, Request.SEND_MODEL, CodingContext(protocol.run, 1, 1))
    assert answer.own_model is not None
    assert answer.own_model.seed == derive(0, "own-init", 1)
    began = protocol.initial_model(answer.own_model.seed)[0]["w"]
    halfway = began + (torch.tensor(TARGETS[1]) - began) / 2
    torch.testing.assert_close(answer.own_model.build(protocol)["w"], halfway)


def test_all_clients_continue_from_the_adopted_model_s_seed(quick_config: MakeConfig) -> None:
    config = quick_config({**SEEDED, "uplink": CHAIN, "downlink": CHAIN})
    played = Played(config, load_task(config))
    played.round(1)
    assert played.server.state.facts["base"] in {derive(config.seed, "own-init", c) for c in range(4)}
    played.round(2)
    for order in played.orders[1].values():
        assert {s.name for s in decode_message(order).sections} == {"do", "seed", "changes"}
        assert len(order) < 0.1 * 4 * 4810
    played.round(3)
    assert {s.name for s in decode_message(played.orders[2][0]).sections} == {"do", "changes"}
    assert max(sum(map(len, orders.values())) for orders in played.orders) < 4 * 0.1 * 4 * 4810


def test_own_initialisations_cost_as_many_bytes_as_a_shared_seed(quick_config: MakeConfig, tmp_path: Path) -> None:
    chains = {"uplink": CHAIN, "downlink": CHAIN}
    shared = {"name": "fedavg", "start": "shared-seed", **chains}
    totals = {
        name: ob.run(quick_config(method, federation={"rounds": 8}), out=tmp_path / name).summary
        for name, method in (("own", {**SEEDED, **chains}), ("shared", shared))
    }
    assert totals["own"]["bytes"]["total"] < totals["shared"]["bytes"]["total"]  # in round 1, one client sends
    assert totals["own"]["accuracy"]["final"] > totals["shared"]["accuracy"]["final"] - 0.1


def test_models_aligned_by_weights_may_be_seeded(quick_config: MakeConfig, tmp_path: Path) -> None:
    method = {**SEEDED, "frame": "weights", "uplink": "top-k 0.5 | uniform 8", "downlink": "fp32"}
    result = ob.run(quick_config(method, federation={"rounds": 1}), out=tmp_path / "run")
    assert 0 < result.summary["bytes"]["up"] < 0.25 * 4 * 4 * 4810


@pytest.mark.parametrize(
    ("seed", "error"), [((1 << 63).to_bytes(8, "little"), "it has 63 bits"), (b"\0" * 7, "has 7 bytes, not 8")]
)
def test_a_malformed_seed_is_refused(seed: bytes, error: str, quadratic: MakeTask) -> None:
    played, reply = first_replies(quadratic(TARGETS, [1, 3]))
    sections = [Section(s.kind, s.name, seed) if s.name == "seed" else s for s in decode_message(reply).sections]
    message = decode_message(reply)
    forged = encode_message(message.run, message.round, message.sender, sections)
    assert played.server.close([(1, forged)]) == {}
    assert error in played.server.result.failures[1]
    assert not played.server.has_model
    with pytest.raises(WireError):
        played.server.protocol.read(forged, SERVER)


@pytest.mark.parametrize("override", ["method.start=shared-seed", "method.uplink=fp16", "method.frame=signatures"])
def test_choices_that_do_not_go_with_seeded_models_are_refused(override: str) -> None:
    extra = ["method.frame=none"] if "start" in override else []
    with pytest.raises(ConfigError, match="models='seeded' says what clients learned"):
        configure(override, *extra)


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(
    stopped_after: int, quick_config: MakeConfig, tmp_path: Path
) -> None:
    config = quick_config("onebasin", "federation.rounds=4", "federation.cohort=3", "training.epochs=1")
    whole = ob.run(config, out=tmp_path / "whole")
    with pytest.raises(Stop):
        ob.run(config, out=tmp_path / "stopped", observers=[StopAfter(stopped_after)])
    resumed = ob.run(config, resume=tmp_path / "stopped")
    assert [r["bytes"] for r in resumed.history] == [r["bytes"] for r in whole.history]
    assert whole.model is not None
    assert resumed.model is not None
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


@pytest.mark.parametrize("clients", [1, 2])
def test_onebasin_with_few_clients(clients: int, quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("onebasin", task={"clients": clients, "partition": {"kind": "iid"}})
    result = ob.run(config, out=tmp_path / "run")
    assert result.summary["accuracy"]["final"] > 0.3
    assert not any(record["failures"] for record in result.history)
