"""From what a round took to the next global model, by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.federation.rounds import Federation, composition, on_three_values

from onebasin.core.clients import Failure
from onebasin.core.layout import Layout, Tensors
from onebasin.federation.read_config import read_config
from onebasin.federation.server.aggregate import Aggregator
from onebasin.federation.server.aggregation_buffer import AggregationBuffer
from onebasin.learning.task import Task
from onebasin.methods.aggregation_rule import ClientModel, Slots, TooFewReplies
from onebasin.networks.weights import clone, parameters_of

MakeTask = Callable[[list[list[float]], list[int]], Task]
MakeAggregator = Callable[..., tuple[Aggregator, AggregationBuffer]]
LAYOUT = Layout.of({"w": torch.zeros(3)})


@pytest.fixture
def make(quadratic: MakeTask) -> MakeAggregator:
    """Make the aggregator of a configuration, and a buffer for it."""

    def make(*changes: str, clients: int = 5) -> tuple[Aggregator, AggregationBuffer]:
        server = Federation(
            on_three_values("fedavg", *changes, clients=clients), quadratic([[0.0] * 3] * clients, [1] * clients)
        ).server
        return server.aggregator, server._empty_buffer()

    return make


def one(client: int, weight: float, *w: float, joined: bool = True) -> ClientModel:
    return ClientModel(client, weight, {"w": torch.tensor(w)}, {}, joined)


def aggregate(
    made: tuple[Aggregator, AggregationBuffer], slots: Slots, part: Tensors | None = None, **given: Any
) -> Slots:
    aggregator, buffer = made
    return aggregator.next_model(given.get("round", 1), buffer, slots, {}, {}, part)


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ((), False),
        (("method.start=local",), False),
        (("method.start=local", "method.frame=signatures"), False),
        (("method.start=local", "method.frame=adopt-one"), False),
        (("method.start=local", "method.frame=weights"), True),
        (("method.start=local", "method.frame=activations"), True),
        (("method.repair=norm-reset", "method.probes=noise"), True),
        (("method.combine=median",), True),
        (("method.combine=least-squares",), True),
    ],
)
def test_models_are_kept_one_by_one_only_where_something_needs_each(changes: tuple[str, ...], whole: bool) -> None:
    config = read_config("fedavg", changes)
    assert Aggregator(config.method, None, torch.nn.Identity(), 0).needs_whole_models == whole  # type: ignore[arg-type]


def test_the_mean_of_updates_is_applied_by_the_rule(make: MakeAggregator) -> None:
    # (1 [4, 0, -4] + 3 [0, 8, -4]) / 4 = [1, 6, -4], times the rate 2
    made = make("method.combine.rate=2.0")
    common = {"w": torch.tensor([10.0, 10.0, 10.0])}
    made[1].add_update(replace(one(0, 1.0, 4.0, 0.0, -4.0), steps=1), common)
    made[1].add_update(replace(one(1, 3.0, 0.0, 8.0, -4.0), steps=1), common)
    slots: Slots = {"weights": common, "buffers": {}, "control": common}
    after = aggregate(made, slots)
    assert after["weights"]["w"].tolist() == [12.0, 22.0, 2.0]
    assert after["control"] is slots["control"]
    assert slots["weights"] is common
    assert common["w"].tolist() == [10.0, 10.0, 10.0]


def test_only_the_part_that_updates_cover_is_changed(make: MakeAggregator) -> None:
    made = make("method.combine=momentum")
    common = {"w": torch.zeros(3)}
    made[1].add_update(replace(one(0, 1.0, 4.0, 4.0, 4.0), steps=1), common)
    after = aggregate(made, {"weights": common, "buffers": {}}, {"w": torch.tensor([True, False, True])})
    assert after["weights"]["w"].tolist() == after["momentum"]["w"].tolist() == [4.0, 0.0, 4.0]


def test_own_models_alone_become_their_weighted_mean(make: MakeAggregator) -> None:
    made = make("method.start=local")
    made[1].add_model(one(0, 1.0, 1.0, 2.0, 3.0, joined=False))
    made[1].add_model(one(1, 3.0, 5.0, 6.0, 7.0, joined=False))
    assert aggregate(made, {})["weights"]["w"].tolist() == [4.0, 5.0, 6.0]


def test_a_model_that_joins_is_blended_in_by_its_weight(make: MakeAggregator) -> None:
    # updates of weights 1 and 2, mean (1 * 6 + 2 * 3) / 3 = 4: 10 + 4 = 14; joined by 2 of weight 3: (3*14 + 3*2) / 6
    made = make("method.start=local")
    common = {"w": torch.full((3,), 10.0)}
    made[1].add_update(replace(one(0, 1.0, 6.0, 6.0, 6.0), steps=1), common)
    made[1].add_update(replace(one(1, 2.0, 3.0, 3.0, 3.0), steps=1), common)
    made[1].add_model(one(2, 3.0, 2.0, 2.0, 2.0, joined=False))
    assert aggregate(made, {"weights": common, "buffers": {}})["weights"]["w"].tolist() == [8.0, 8.0, 8.0]


def test_whole_models_are_merged_and_the_step_to_them_is_scaled(make: MakeAggregator) -> None:
    # the median of 1, 3, 100 is 3, half of the way from 0
    made = make('method.combine={kind="median", rate=0.5}')
    common = {"w": torch.zeros(3)}
    for client, value in enumerate((1.0, 100.0, 3.0)):
        made[1].add_update(replace(one(client, 1.0, value, value, -value), steps=1), common)
    after = aggregate(made, {"weights": common, "buffers": {}})
    assert after["weights"]["w"].tolist() == [1.5, 1.5, -1.5]


def test_who_is_left_out_is_remarked(make: MakeAggregator) -> None:
    made = make('method.combine={kind="krum", byzantine=1}')
    common = {"w": torch.zeros(3)}
    for client, value in enumerate((0.0, 1.0, 3.0, 7.0, 100.0)):
        made[1].add_update(replace(one(client, 1.0, value, 0.0, 0.0), steps=1), common)
    after = aggregate(made, {"weights": common, "buffers": {}})
    assert after["weights"]["w"].tolist() == [1.0, 0.0, 0.0]
    assert made[1].remarks == dict.fromkeys((0, 2, 3, 4), "left out by krum")


def test_too_few_whole_models_are_refused(make: MakeAggregator) -> None:
    made = make("method.combine=median")
    for client in range(2):
        made[1].add_update(replace(one(client, 1.0, 0.0, 0.0, 0.0), steps=1), {"w": torch.zeros(3)})
    with pytest.raises(TooFewReplies, match="a median needs 3 replies or more; there are 2"):
        aggregate(made, {"weights": {"w": torch.zeros(3)}, "buffers": {}})


def test_buffers_are_averaged_beside_the_weights() -> None:
    """Whole models and running means lead to the same buffers, but for counters, of which one may be larger."""
    found = []
    for changes in ((), ("method.combine=trimmed-mean", "method.combine.trim=0.1")):
        made = Federation(composition("fedavg", "task.model.norm=batch", "federation.weighting=uniform", *changes))
        buffer, slots = made.server._empty_buffer(), made.server.state.slots
        for client, value in enumerate((1.0, 2.0, 6.0)):
            buffers = {
                name: torch.full_like(b, value if b.is_floating_point() else 5) for name, b in slots["buffers"].items()
            }
            update = {name: torch.zeros_like(w) for name, w in slots["weights"].items()}
            buffer.add_update(replace(ClientModel(client, 1.0, update, buffers, True), steps=1), slots["weights"])
        after = made.server.aggregator.next_model(1, buffer, slots, {}, {}, None)
        found.append({name: value.double().mean().item() for name, value in after["buffers"].items()})
    assert set(found[0].values()) == {3.0, 5.0}
    assert set(found[1].values()) == {2.0, 5.0}, "one of three is trimmed at either end"


def test_models_that_were_aligned_leave_their_permutations() -> None:
    """Two clients with one network in two neuron orders: the second is brought into the first's."""
    made = Federation(composition("own starts, weights"))
    server, spec = made.server, made.server.protocol.neurons.spec
    weights = clone(parameters_of(made.task.build_model(1)))
    perms = spec.random(5)
    buffer, orders = server._empty_buffer(), {}
    buffer.add_model(ClientModel(0, 1.0, weights, {}, False))
    buffer.add_model(ClientModel(3, 1.0, spec.apply(weights, perms), {}, False))
    after = server.aggregator.next_model(1, buffer, {}, {}, orders, None)
    for name, value in weights.items():
        torch.testing.assert_close(after["weights"][name], value)
    assert orders.keys() == {0, 3}
    assert all(torch.equal(orders[3][group], perms[group].argsort()) for group in spec.groups)


def test_statistics_of_a_client_whose_model_never_came_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[list[int], int]] = []

    def watched(
        model: object, merged: Tensors, models: list[ClientModel], reported: dict[int, object], *_: object
    ) -> Tensors:
        used.append(([one.client for one in models], len(reported)))
        return merged

    monkeypatch.setattr("onebasin.federation.server.repair_model.repaired", watched)
    made = Federation(composition("own starts, repair by clients", "method.frame=signatures"))
    orders = made.server.close(list(made.engine.exchange(made.server.open(1))))
    replies = made.engine.exchange(orders)
    made.server.close([(client, Failure("gone") if client == 3 else reply) for client, reply in replies])
    assert used == [([0, 1, 2], 3)]
