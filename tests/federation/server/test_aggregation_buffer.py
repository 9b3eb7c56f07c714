"""What a round has taken so far: running means or whole models, by hand; and that it can be put down and taken up."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin.core.layout import Layout, Tensors
from onebasin.core.state import State
from onebasin.federation.server.aggregation_buffer import EXTREME, AggregationBuffer
from onebasin.federation.update_forwarding import RawUpdate
from onebasin.methods.aggregation_rule import ClientModel

WEIGHTS = Layout.of({"w": torch.zeros(2)})
BUFFERS = Layout.of({"m": torch.zeros(1), "n": torch.tensor(0)})
COMMON = {"w": torch.tensor([10.0, 20.0])}


def empty(whole: bool = False) -> AggregationBuffer:
    return AggregationBuffer(WEIGHTS, BUFFERS, whole)


def model(client: int, weight: float, w: list[float], m: float = 0.0, n: int = 0, joined: bool = True) -> ClientModel:
    return ClientModel(client, weight, {"w": torch.tensor(w)}, {"m": torch.tensor([m]), "n": torch.tensor(n)}, joined)


def copy_of(buffer: AggregationBuffer) -> AggregationBuffer:
    found = empty(buffer.whole)
    found.fill(State.from_bytes(buffer.to_state().to_bytes()))
    return found


def listed(tensors: Tensors) -> dict[str, object]:
    return {name: value.tolist() for name, value in tensors.items()}


def test_updates_are_averaged_as_they_come() -> None:
    # w = (1 [1, 2] + 3 [5, -2]) / 4; m = (1 * 8 + 3 * 4) / 4; n keeps its maximum; 1 * 2 + 3 * 4 weighted steps
    buffer = empty()
    assert buffer.empty
    buffer.add_update(replace(model(0, 1.0, [1.0, 2.0], m=8.0, n=5), steps=2), COMMON)
    buffer.add_update(replace(model(1, 3.0, [5.0, -2.0], m=4.0, n=3), steps=4), COMMON)
    assert not buffer.empty
    assert listed(buffer.update.result()) == {"w": [4.0, -1.0]}
    assert listed(buffer.buffers.result()) == {"m": [5.0], "n": 5}
    assert buffer.steps == 14.0
    assert buffer.models == []


def test_own_models_have_a_mean_of_their_own_and_share_that_of_buffers() -> None:
    buffer = empty()
    buffer.add_update(replace(model(0, 1.0, [1.0, 1.0], m=8.0), steps=1), COMMON)
    buffer.add_model(model(1, 3.0, [7.0, 7.0], m=4.0, joined=False))
    assert listed(buffer.update.result()) == {"w": [1.0, 1.0]}
    assert listed(buffer.model.result()) == {"w": [7.0, 7.0]}
    assert listed(buffer.buffers.result()) == {"m": [5.0], "n": 0}
    assert buffer.steps == 1.0, "of updates alone"


def test_whole_models_are_kept_as_the_global_one_plus_their_update() -> None:
    buffer = empty(whole=True)
    buffer.add_update(replace(model(4, 1.0, [1.0, 2.0], m=8.0), steps=2), COMMON)
    buffer.add_model(model(2, 3.0, [5.0, -2.0], joined=False))
    assert [(one.client, one.joined, one.weights["w"].tolist()) for one in buffer.models] == [
        (4, True, [11.0, 22.0]),
        (2, False, [5.0, -2.0]),
    ]
    assert buffer.update.weight == buffer.model.weight == 0
    assert not buffer.empty


def test_extras_are_averaged_by_section() -> None:
    buffer = empty()
    for value in (1.0, 2.0, 6.0):
        buffer.extra("control").add({"w": torch.full((2,), value)}, 1.0)
    assert listed(buffer.extra("control").result()) == {"w": [3.0, 3.0]}
    assert buffer.empty, "they alone make no model"


# Extremes


@pytest.mark.parametrize("value", [EXTREME, -EXTREME])
def test_the_largest_magnitude_of_a_working_model_is_kept(value: float) -> None:
    buffer = empty(whole=True)
    buffer.add_model(model(0, 1.0, [value, 0.0]))
    assert buffer.drop_extreme() == set()
    assert len(buffer.models) == 1


def test_models_with_larger_numbers_in_weights_buffers_or_statistics_are_dropped() -> None:
    buffer = empty(whole=True)
    for one in (
        model(0, 1.0, [2e6, 0.0]),
        model(1, 1.0, [0.0, 0.0], m=-2e6),
        model(2, 1.0, [0.0, 0.0], n=2_000_000),
        model(3, 1.0, [0.0, 0.0]),
        model(4, 1.0, [0.0, 0.0]),
    ):
        buffer.add_model(one)
    for client in (2, 3, 4):
        buffer.statistics[client] = (1.0, {"fc1": torch.tensor([[0.0], [3e7 if client == 3 else 1.0]])})
    assert buffer.drop_extreme() == {0, 1, 3}
    assert [one.client for one in buffer.models] == [2, 4], "whole numbers count what they count"
    assert buffer.statistics.keys() == {2, 4}
    assert buffer.drop_extreme() == set()


def test_of_a_mean_nothing_can_be_dropped() -> None:
    buffer = empty()
    buffer.add_update(replace(model(0, 1.0, [2e6, 0.0]), steps=1), COMMON)
    assert buffer.drop_extreme() == set()
    assert not buffer.empty


# Put down and taken up


def test_all_that_was_added_goes_through_bytes() -> None:
    buffer = empty(whole=True)
    buffer.add_update(replace(model(3, 2.0, [1.0, 2.0], m=8.0, n=5), steps=2), COMMON)
    buffer.add_model(model(1, 1.0, [0.5, 0.25], joined=False))
    buffer.statistics[1] = (7.0, {"fc1": torch.tensor([[1.0], [2.0]])})
    buffer.remarks[3] = "left out by krum"
    buffer.raw_updates = [RawUpdate(3, 2.0, b"\x00\xffbytes"), RawUpdate(1, 1.0, b"x")]
    found = copy_of(buffer)
    assert [(one.client, one.weight, one.joined) for one in found.models] == [(3, 2.0, True), (1, 1.0, False)]
    assert [listed(one.state) for one in found.models] == [listed(one.state) for one in buffer.models]
    assert found.statistics[1][0] == 7.0
    assert found.statistics[1][1]["fc1"].tolist() == [[1.0], [2.0]]
    assert found.remarks == {3: "left out by krum"}
    assert found.raw_updates == buffer.raw_updates
    assert found.to_state().to_bytes() == buffer.to_state().to_bytes()


def test_an_empty_one_goes_through_bytes() -> None:
    found = copy_of(empty())
    assert found.empty
    found.add_update(replace(model(0, 1.0, [1.0, 2.0]), steps=1), COMMON)
    assert listed(found.update.result()) == {"w": [1.0, 2.0]}


def test_what_was_put_down_does_not_change_with_what_is_added_later() -> None:
    buffer = empty()
    buffer.add_update(replace(model(0, 1.0, [1.0, 2.0], n=1), steps=1), COMMON)
    buffer.extra("control").add({"w": torch.ones(2)}, 1.0)
    saved = buffer.to_state()
    before = saved.to_bytes()
    one, other = empty(), empty()
    one.fill(saved)
    for growing in (buffer, one):
        growing.add_update(replace(model(1, 1.0, [5.0, 6.0], n=9), steps=1), COMMON)
        growing.extra("control").add({"w": torch.ones(2)}, 1.0)
    assert saved.to_bytes() == before
    other.fill(saved)
    assert listed(other.update.result()) == {"w": [1.0, 2.0]}
    assert listed(one.update.result()) == listed(buffer.update.result()) == {"w": [3.0, 4.0]}


VALUES = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=2)
REPLIES = st.lists(st.tuples(VALUES, st.integers(1, 500), st.booleans()), min_size=1, max_size=6)


@given(REPLIES, st.data(), st.booleans())
def test_wherever_it_is_put_down_the_bits_are_the_same(
    replies: list[tuple[list[float], int, bool]], data: st.DataObject, whole: bool
) -> None:
    cut = data.draw(st.integers(0, len(replies)))
    straight, interrupted = empty(whole), empty(whole)
    for place, (values, weight, joined) in enumerate(replies):
        if place == cut:
            interrupted = copy_of(interrupted)
        for buffer in (straight, interrupted):
            one = model(place, float(weight), values, m=values[0], n=weight, joined=joined)
            if joined:
                buffer.add_update(replace(one, steps=weight), COMMON)
            else:
                buffer.add_model(one)
            buffer.extra("control").add({"w": torch.tensor(values)}, 1.0)
    assert interrupted.to_state().to_bytes() == straight.to_state().to_bytes()
