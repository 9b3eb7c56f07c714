"""signSGD: a step of one size along the sign of the mean."""

import torch

from onebasin.methods.aggregation.majority_vote import MajorityVote
from onebasin.methods.aggregation_rule import Mean, apply_rule


def test_each_value_moves_by_the_rate_where_the_majority_goes() -> None:
    # signs of three clients: (+ + -), (- - -), (+ - 0): the mean is 1/3, -1, 0
    votes = torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 0.0]])
    slots = {"weights": {"w": torch.tensor([1.0, 1.0, 1.0])}}
    after = apply_rule(MajorityVote(rate=0.25), slots, Mean({"w": votes.mean(0)}, 3.0))
    assert after["weights"]["w"].tolist() == [1.25, 0.75, 1.0]
