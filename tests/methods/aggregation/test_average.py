"""The mean update, times a rate, added to the weights."""

import torch

from onebasin.methods.aggregation.average import Average
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_the_mean_update_is_added() -> None:
    slots = {"weights": {"w": torch.tensor([1.0, 2.0, 3.0])}}
    mean = Mean({"w": torch.tensor([0.5, -2.0, 0.0])})
    assert apply_rule(Average(), slots, mean)["weights"]["w"].tolist() == [1.5, 0.0, 3.0]
    assert apply_rule(Average(rate=0.5), slots, mean)["weights"]["w"].tolist() == [1.25, 1.0, 3.0]


def test_it_remembers_nothing_and_clients_can_apply_it_themselves() -> None:
    assert Average().memory({"w": torch.ones(3)}) == {}
    assert Average.is_forwardable
    assert not Average.sees_each_model
