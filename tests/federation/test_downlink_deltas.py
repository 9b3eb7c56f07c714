"""Chains in both directions, over whole rounds: the clients' models, the ledger, catch-up."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import Point

import onebasin as ob
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.downlink_deltas import broadcast_model
from onebasin.federation.engines.single import InProcess
from onebasin.federation.read_config import read_config
from onebasin.federation.round_loop import in_order
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task
from onebasin.wire.ledger import Ledger
from onebasin.wire.message import decode_message

TARGETS = [[8.0, 0.0, -8.0], [0.0, 16.0, -8.0]]
MakeTask = Callable[[list[list[float]], list[int]], Task]


def configure(uplink: str, downlink: str, rounds: int = 3, *overrides: str) -> RunConfig:
    return read_config(
        {
            "method": {"name": "fedavg", "uplink": uplink, "downlink": downlink, "start": "shared-seed"},
            "task": {"clients": 2},
            "training": {"optimizer": "sgd", "lr": 0.5, "batch": 4, "steps": 1},
            "federation": {"rounds": rounds, "weighting": "uniform"},
        },
        overrides,
    )


class Played:
    """A run on the three parameters, round by round."""

    def __init__(self, config: RunConfig, task: Task) -> None:
        self.server, self.engine, self.ledger = Server(config, task), InProcess(Client(config, task)), Ledger()
        self.orders: list[dict[int, bytes]] = []
        self.weights: list[object] = []

    def round(self, number: int) -> None:
        orders = self.server.open(number)
        self.orders.append(dict(orders))
        while orders:
            self.ledger.charge_orders(number, orders)
            replies = list(in_order(orders, self.engine.exchange(orders)))
            for client, reply in replies:
                assert isinstance(reply, bytes)
                self.ledger.charge(number, client, "up", reply)
            orders = self.server.close(replies)
        self.weights.append(next(iter(self.server.state.slots["weights"].values())).tolist())

    def holds(self, client: int) -> list[float] | None:
        known = broadcast_model(State.from_bytes(self.engine.read_state(client)))
        return None if known is None else known.weights["w"].tolist()


def test_error_feedback_in_both_directions_by_hand(quadratic: MakeTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0, client i is at t_i / 2 after its step, so the updates are [4, 0, -4] and [0, 8, -4].

    top-k 1/3 of three values sends one: 4 (the first of the two largest) and 8. Their mean is [2, 4, 0]; the server
    sends 4, and its residual is 2. Round 2 starts from [0, 4, 0]. The updates are [4, -2, -4], plus the residual
    [0, 0, -4] = [4, -2, -8], sent -8; and [0, 6, -4] + [0, 0, -4] = [0, 6, -8], sent -8. Their mean is [0, 0, -8], plus
    the residual 2: the server sends -8.
    """
    chain = "error-feedback | top-k 0.34 | fp32"
    task = quadratic(TARGETS, [1, 1])
    monkeypatch.setattr(type(task), "build_model", lambda self, seed: Point())
    played = Played(configure(chain, chain, 2), task)
    played.round(1)
    assert played.weights[0] == [0.0, 4.0, 0.0]
    assert played.server.state.slots["downlink/error-feedback"]["w"].tolist() == [2.0, 0.0, 0.0]
    played.round(2)
    assert played.weights[1] == [0.0, 4.0, -8.0]
    assert played.holds(0) == played.holds(1) == [0.0, 4.0, 0.0]  # the model that they had when they replied


def test_ternary_fedavg_costs_its_closed_form(quadratic: MakeTask) -> None:
    """Three rounds, both directions ternary: a float, a bit that says whether symbols are counted, three symbols.

    32 bits, 1 bit, and at most 3 log2(3) = 4.8 bits (without counts): 38 bits are two words of the coder.
    """
    played = Played(configure("ternary", "ternary"), quadratic(TARGETS, [1, 1]))
    for number in (1, 2, 3):
        played.round(number)
    coded = 4 + 4 * math.ceil(38 / 32)
    envelope = 2 + 1 + 4 + 1 + 1 + 4  # magic, version, run, round, sender, checksum
    do, report = 2 + 1, 2 + 1 + 1 + 4
    reply = envelope + report + 2 + coded
    first = envelope + do + (2 + 8) + (2 + 1)  # the seed, and that nothing has changed since
    later = envelope + do + (2 + 1 + 1 + 1 + coded)
    assert [len(order) for orders in played.orders for order in orders.values()] == [first] * 2 + [later] * 4
    totals = played.ledger.totals()
    assert totals["total"] == 2 * (3 * reply + first + 2 * later)
    assert totals["total_multicast"] == 2 * 3 * reply + first + 2 * later


def test_clients_have_the_servers_model_bit_for_bit(quick_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    chain = "error-feedback | small 64 | top-k 0.05 | sign"
    config = quick_config("fedavg", f"method.uplink={chain}", f"method.downlink={chain}", "federation.rounds=4")
    result = ob.run(config, out=tmp_path / "run")
    (file,) = (tmp_path / "run" / "checkpoint").glob("server-*.safetensors")
    server = State.from_bytes(file.read_bytes())
    assert set(server.facts["holds"].values()) == {3}  # that of round 4 was not yet sent to anybody
    assert server.facts["version"] == 4
    for name, value in server.slots["held"].items():
        assert torch.equal(dict(result.model.named_parameters())[name].detach(), value)


@pytest.mark.parametrize("start", ["broadcast", "shared-seed"])
def test_an_absent_client_catches_up_with_deltas(quick_config: Callable[..., RunConfig], start: str) -> None:
    config = quick_config("fedavg", "method.downlink=top-k 0.01 | sign", f"method.start={start}", "federation.rounds=9")
    config = config.model_copy(update={"federation": config.federation.model_copy(update={"cohort": 1})})
    played = Played(config, load_task(config))
    brought: dict[int, list[tuple[set[str], int]]] = {}
    for number in range(1, 10):
        played.round(number)
        ((client, order),) = played.orders[-1].items()
        names = {section.name for section in decode_message(order).sections} - {"do"}
        brought.setdefault(client, []).append((names, len(order)))
    first = {"weights", "version"} if start == "broadcast" else {"seed", "changes"}
    whole = 4 * 4810
    for orders in brought.values():
        assert orders[0][0] == first
        assert (orders[0][1] > whole) == (start == "broadcast")
        assert all(names == {"changes"} and size < whole / 10 for names, size in orders[1:])


def test_the_whole_model_is_sent_where_that_is_shorter(quadratic: MakeTask) -> None:
    config = configure("fp32", "ternary", 30, "federation.cohort=1", "method.start=broadcast")
    played = Played(config, quadratic(TARGETS, [1, 1]))
    for number in range(1, 31):
        played.round(number)
    log = played.server.state.slots["log"]
    assert sum(map(len, log.values())) <= 3 * 4 + 4 + 64
    assert played.server.state.facts["since"] == min(map(int, log)) - 1


def test_a_client_that_lost_its_state_receives_the_whole_model(quadratic: MakeTask) -> None:
    played = Played(configure("fp32", "ternary", 4), quadratic(TARGETS, [1, 1]))
    played.round(1)
    played.round(2)
    played.engine._states[1] = State()
    orders = played.server.open(3)
    played.server.close(list(played.engine.exchange(orders)))
    assert "since version 1, but this client has no model" in played.server.result.failures[1]
    orders = played.server.open(4)
    assert {section.name for section in decode_message(orders[1]).sections} == {"do", "weights", "version"}
    assert {section.name for section in decode_message(orders[0]).sections} == {"do", "changes"}
    replies = list(played.engine.exchange(orders))
    assert all(isinstance(reply, bytes) for _, reply in replies)
    assert played.holds(0) == played.holds(1)
