"""FedAvgM: two steps by hand."""

import torch

from onebasin.methods.aggregation.momentum import Momentum
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_two_steps_by_hand() -> None:
    # beta = 1/2, rate 2. v1 = d1 = [4, -2]; w1 = [8, -4]. v2 = v1/2 + d2 = [2, -1] + [1, 3] = [3, 2]; w2 = [14, 0].
    rule = Momentum(rate=2.0, beta=0.5)
    slots = apply_rule(rule, {"weights": {"w": torch.zeros(2)}}, Mean({"w": torch.tensor([4.0, -2.0])}))
    assert slots["momentum"]["w"].tolist() == [4.0, -2.0]
    assert slots["weights"]["w"].tolist() == [8.0, -4.0]
    slots = apply_rule(rule, slots, Mean({"w": torch.tensor([1.0, 3.0])}))
    assert slots["momentum"]["w"].tolist() == [3.0, 2.0]
    assert slots["weights"]["w"].tolist() == [14.0, 0.0]


def test_without_momentum_it_is_the_average() -> None:
    slots = {"weights": {"w": torch.tensor([1.0])}}
    for update in (2.0, 3.0):
        slots = apply_rule(Momentum(beta=0.0), slots, Mean({"w": torch.tensor([update])}))
    assert slots["weights"]["w"].tolist() == [6.0]
