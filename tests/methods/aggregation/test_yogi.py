"""FedYogi: two steps by hand."""

import pytest
import torch

from onebasin.methods.aggregation.adam import Adam
from onebasin.methods.aggregation.yogi import Yogi
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_two_steps_by_hand() -> None:
    # beta1 = 1/2, beta2 = 3/4, tau = 2, rate 3, from w = 0, m = 0, v = tau^2 = 4; v - d^2 sign(v - d^2) / 4.
    # d1 = [4, 2]: m = [2, 1]; v: 4 < 16, so 4 + 4 = 8; 4 = 4, so it stays 4. w: first 6 / (sqrt(8) + 2), second 3/4.
    # d2 = [-2, 4]: m = [0, 2.5]; v: 8 > 4, so 8 - 1 = 7; 4 < 16, so 4 + 4 = 8. w: second + 7.5 / (sqrt(8) + 2).
    rule = Yogi(beta1=0.5, beta2=0.75, tau=2.0, rate=3.0)
    slots = apply_rule(rule, {"weights": {"w": torch.zeros(2)}}, Mean({"w": torch.tensor([4.0, 2.0])}))
    assert slots["momentum"]["w"].tolist() == [2.0, 1.0]
    assert slots["second"]["w"].tolist() == [8.0, 4.0]
    first = 6 / (8**0.5 + 2)
    assert slots["weights"]["w"].tolist() == pytest.approx([first, 0.75], rel=1e-6)
    slots = apply_rule(rule, slots, Mean({"w": torch.tensor([-2.0, 4.0])}))
    assert slots["momentum"]["w"].tolist() == [0.0, 2.5]
    assert slots["second"]["w"].tolist() == [7.0, 8.0]
    assert slots["weights"]["w"].tolist() == pytest.approx([first, 0.75 + 7.5 / (8**0.5 + 2)], rel=1e-6)


def test_a_small_update_after_large_ones_is_forgotten_no_faster_than_its_square() -> None:
    """v = 100, d^2 = 1: Adam's v falls by 1 - beta2 of the difference 99, Yogi's by 1 - beta2 of 1."""
    slots = {
        "weights": {"w": torch.zeros(1)},
        "momentum": {"w": torch.zeros(1)},
        "second": {"w": torch.tensor([100.0])},
    }
    mean = Mean({"w": torch.ones(1)})
    assert apply_rule(Adam(beta2=0.5), slots, mean)["second"]["w"].tolist() == [50.5]
    assert apply_rule(Yogi(beta2=0.5), slots, mean)["second"]["w"].tolist() == [99.5]
