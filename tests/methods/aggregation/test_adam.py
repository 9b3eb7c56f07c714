"""FedAdam: two steps by hand."""

import pytest
import torch

from onebasin.methods.aggregation.adam import Adam
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_two_steps_by_hand() -> None:
    # beta1 = 1/2, beta2 = 3/4, tau = 2, rate 3, from w = 0, m = 0, v = tau^2 = 4.
    # d1 = [4, 2]: m = d1/2 = [2, 1]; v = 3/4 * 4 + 1/4 [16, 4] = [7, 4]; w = 3 m / (sqrt(v) + 2): second 3/4.
    # d2 = [-2, 4]: m = m/2 + d2/2 = [0, 2.5]; v = 3/4 [7, 4] + 1/4 [4, 16] = [6.25, 7];
    # w += 3 m / (sqrt(v) + 2): first + 0, second 3/4 + 7.5 / (sqrt(7) + 2).
    rule = Adam(beta1=0.5, beta2=0.75, tau=2.0, rate=3.0)
    slots = apply_rule(rule, {"weights": {"w": torch.zeros(2)}}, Mean({"w": torch.tensor([4.0, 2.0])}))
    assert slots["momentum"]["w"].tolist() == [2.0, 1.0]
    assert slots["second"]["w"].tolist() == [7.0, 4.0]
    first = 6 / (7**0.5 + 2)
    assert slots["weights"]["w"].tolist() == pytest.approx([first, 0.75], rel=1e-6)
    slots = apply_rule(rule, slots, Mean({"w": torch.tensor([-2.0, 4.0])}))
    assert slots["momentum"]["w"].tolist() == [0.0, 2.5]
    assert slots["second"]["w"].tolist() == [6.25, 7.0]
    assert slots["weights"]["w"].tolist() == pytest.approx([first, 0.75 + 7.5 / (7**0.5 + 2)], rel=1e-6)


def test_it_begins_without_momentum_and_with_the_square_of_tau() -> None:
    memory = Adam(tau=0.5).memory({"w": torch.ones(2), "b": torch.ones(1, 1)})
    assert {slot: {name: t.tolist() for name, t in tensors.items()} for slot, tensors in memory.items()} == {
        "momentum": {"w": [0.0, 0.0], "b": [[0.0]]},
        "second": {"w": [0.25, 0.25], "b": [[0.25]]},
    }


def test_what_is_in_the_slots_is_not_changed() -> None:
    before = {"weights": {"w": torch.zeros(1)}, "momentum": {"w": torch.ones(1)}, "second": {"w": torch.ones(1)}}
    apply_rule(Adam(), before, Mean({"w": torch.ones(1)}))
    assert {slot: tensors["w"].item() for slot, tensors in before.items()} == {
        "weights": 0.0,
        "momentum": 1.0,
        "second": 1.0,
    }
