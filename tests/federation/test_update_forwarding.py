"""Update forwarding: all clients get all encoded updates, and compute the same model from them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.federation.test_downlink_deltas import TARGETS, MakeTask, Played, configure
from tests.stopped_runs import Stop, StopAfter

import onebasin as ob
from onebasin.core.settings import ConfigError
from onebasin.core.state import State
from onebasin.federation.downlink_deltas import broadcast_model
from onebasin.federation.read_config import read_config
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.aggregation_buffer import RawUpdate
from onebasin.federation.update_forwarding import forwarded_model, write_updates
from onebasin.learning.load_task import load_task
from onebasin.wire.error import WireError
from onebasin.wire.message import decode_message

MakeConfig = Callable[..., RunConfig]


def test_clients_compute_the_servers_model_from_the_forwarded_updates(quadratic: MakeTask) -> None:
    played = Played(configure("top-k 1.0 | fp32", "relay"), quadratic(TARGETS, [1, 1]))
    start = played.server.state.slots["weights"]["w"].tolist()
    for number in range(1, 4):
        played.round(number)
    mean = [4.0, 8.0, -8.0]
    assert played.weights == [
        [pytest.approx(m + (s - m) / 2**rounds, rel=1e-5) for s, m in zip(start, mean, strict=True)]
        for rounds in (1, 2, 3)
    ]
    assert played.holds(0) == played.holds(1) == played.weights[1]  # that of round 3 was not yet sent
    assert played.orders[2][0] == played.orders[2][1]  # one message for all
    said = played.server.state.slots["log"]["3"].numpy().tobytes()
    body = 4 + 12  # the head and three floats; a mask of which all is sent and of which nothing is told
    assert 2 * (3 + body) <= len(said) <= 2 * (3 + body + 4)  # of each client its number, its weight, how many bytes


def test_forwarded_masks_lead_to_the_same_model(quick_config: MakeConfig, tmp_path: Path) -> None:
    result = ob.run(quick_config("bicompfl", "federation.rounds=5"), out=tmp_path / "run")
    (file,) = (tmp_path / "run" / "checkpoint").glob("server-*.safetensors")
    server = State.from_bytes(file.read_bytes())
    assert server.facts["version"] == 5
    totals, parameters = result.summary["bytes"], result.summary["parameters"]
    per_weight = 8 / parameters / 4
    last = result.history[-1]["bytes"]
    before = result.history[-2]["bytes"]
    up, down = (per_weight * (last[way] - before[way]) for way in ("up", "down"))
    assert up < 0.15  # 70 bytes, of which half are none of the mask's
    assert 3 * up < down < 5 * up  # four clients' masks go to each of them
    assert totals["total"] < 0.05 * 5 * 4 * 8 * parameters
    assert result.summary["accuracy"]["final"] > 0.5


def test_an_absent_client_catches_up_with_the_forwarded_updates(quick_config: MakeConfig) -> None:
    config = quick_config("bicompfl", "federation.rounds=7", "federation.cohort=2")
    played = Played(config, load_task(config))
    names: dict[int, list[set[str]]] = {}
    for number in range(1, 8):
        before = played.server.state.slots["weights"]
        played.round(number)
        for client, order in played.orders[-1].items():
            names.setdefault(client, []).append({s.name for s in decode_message(order).sections} - {"do"})
        for client in played.orders[-1]:
            known = broadcast_model(State.from_bytes(played.engine.read_state(client)))
            assert known is not None
            assert known.version == number - 1
            for name, value in before.items():
                assert torch.equal(known.weights[name], value)
    assert all(heard[0] == {"seed", "changes"} for heard in names.values())
    assert all(later == {"changes"} for heard in names.values() for later in heard[1:])


def test_a_resumed_run_equals_an_uninterrupted_one(quick_config: MakeConfig, tmp_path: Path) -> None:
    config = quick_config("klms", "method.downlink=relay", "federation.rounds=4", "federation.cohort=2")
    whole = ob.run(config, out=tmp_path / "whole")
    stopped = tmp_path / "stopped"

    with pytest.raises(Stop):
        ob.run(config, out=stopped, observers=[StopAfter(2)])
    resumed = ob.run(config, resume=stopped)
    assert resumed.history[-1]["bytes"] == whole.history[-1]["bytes"]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_malformed_forwarded_updates_are_refused(quadratic: MakeTask) -> None:
    played = Played(configure("top-k 1.0 | sign", "relay"), quadratic(TARGETS, [1, 1]))
    protocol, before = played.server.protocol, broadcast_model(played.server.state)
    assert before is not None
    weights, moved = before.weights, before.change_history
    played.round(1)
    body = played.server.state.slots["log"]["1"].numpy().tobytes()
    assert forwarded_model(protocol, body, 1, weights, moved).keys() == weights.keys()
    for cut in range(len(body)):
        if cut != len(body) // 2:  # there, one of the two is whole
            with pytest.raises(WireError):
                forwarded_model(protocol, body[:cut], 1, weights, moved)
    with pytest.raises(WireError, match="weight 0"):
        forwarded_model(protocol, write_updates([RawUpdate(0, 0.0, body)]), 1, weights, moved)
    one = RawUpdate(0, 1.0, body[3 : len(body) // 2])
    for twice in ([one, one], [RawUpdate(2, 1.0, one.body)]):  # a bomb of one update, over and over; nobody of this run
        with pytest.raises(WireError, match="of 2 clients"):
            forwarded_model(protocol, write_updates(twice), 1, weights, moved)


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["method.start=local"], "needs a common start"),
        (["method.uplink=fp32"], "an uplink that is a chain"),
        (["method.combine=momentum"], "has clients combine by themselves"),
        (["method.uplink=relay"], "unknown codec"),
    ],
)
def test_choices_that_do_not_go_with_update_forwarding_are_refused(overrides: list[str], error: str) -> None:
    source = {"method": {"name": "fedavg", "start": "shared-seed", "uplink": "top-k 0.1 | sign", "downlink": "relay"}}
    with pytest.raises(ConfigError, match=error):
        read_config(source, overrides)
